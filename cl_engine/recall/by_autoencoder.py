"""The autoencoder codec: skills in a lifelong autoencoder (Self-Net, Camp, Mandivarapu & Estrada 2020), block by block."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.events import Event
from cl_engine.recall import lattice, numbers
from cl_engine.recall.autoencoder import Layers, Weights
from cl_engine.recall.budget import Budget
from cl_engine.recall.closed_form import principal_encoder
from cl_engine.recall.codec import Batch, Keeping, Report, SkillCodec
from cl_engine.recall.codes import code_of, no_codes, put_code
from cl_engine.recall.consolidation import Consolidation, Targets, Trained, consolidate
from cl_engine.recall.manifest import chunked, joined
from cl_engine.recall.stop import Newest, StopRule


class AutoencoderCodec(SkillCodec):
    """Keeps a skill as a latent code for each of its chunks, and in the weights of an autoencoder that gives it back.

    To take in new skills the autoencoder is retrained on them and on its own recollections of the old ones. Codes are
    computed anew when it is done (the released code kept those of the last forward pass before the last step).

    >>> from cl_engine.recall.choice import CodecOptions, codec_of
    >>> codec_of(CodecOptions.of({"latent": 3}), [0], [40, 10], torch.device("cpu")).shape.latent
    3
    """

    recall_parts = ("decoder", "latents", "residuals")

    def __init__(
        self,
        seeds: Sequence[int],
        sizes: Sequence[int],
        device: torch.device,
        *,
        layers: Layers,
        rule: StopRule,
        consolidation: Consolidation,
        budget: Budget,
    ) -> None:
        """Set the codec up for skills whose tensors have these ``sizes``."""
        super().__init__(seeds, sizes, device)
        self.shape = shape = layers.shape(self.size)
        self.layers, self.rule, self.consolidation, self.budget = layers, rule, consolidation, budget
        self._reference_bits = budget.bits if budget.references == "quantised" else 0
        self.chunks = -(-self.size // shape.inputs)
        self._shapes = {name: tensor.shape[1:] for name, tensor in shape.init_decoder(seeds[:1]).items()}
        columns = numbers.column_groups(list(self._shapes.values()), sizes, device)
        self._decoders = numbers.Rows(columns, budget.decoder_bits, coded=True)
        one_group = torch.zeros(self.chunks * shape.latent, dtype=torch.int64, device=device)
        self._latents = numbers.Rows(one_group, budget.latent_bits)
        self._principal = consolidation.closed_form and not shape.hidden

    def start(self) -> State:
        seeds, budget, device = len(self.seeds), self.budget, self.device
        chunk_scales = Bank.empty(seeds, (self.chunks,), torch.float32, device)
        state: State = {
            "decoder": self._decoders.empty(seeds),
            "latents": {**self._latents.empty(seeds), "chunk_scales": chunk_scales},
        }
        for part, bits in (("residuals", budget.residual_bits), ("references", self._reference_bits)):
            if bits:
                state[part] = self._no_lattice()
        return state

    def held(self, state: State) -> int:
        return len(state["latents"]["chunk_scales"])

    def version(self, state: State, row: int) -> int:
        block = row // self.budget.block if self.budget.block else 0
        writes = state["latents"]["chunk_scales"].writes(row)
        return hash((row, writes, self._decoders.writes(state["decoder"], block)))

    def replaceable(self, state: State, row: int) -> bool:
        return row >= self._first(state)

    def moving(self, state: State) -> list[int]:
        return list(range(self._first(state), self.held(state)))

    def recall(self, state: State, row: int) -> Tensor:
        base = self._decoded(state, [row])[:, 0]
        if not self.budget.residual_bits:
            return base
        return self._on_lattice(state["residuals"], row, base)

    def keep(self, state: State, batch: Batch) -> Keeping:
        block = self.budget.block
        epochs, begin = [0] * len(self.seeds), 0
        while begin < len(batch.rows):
            end, last = begin, self._first(state) + block
            while end < len(batch.rows) and (not block or batch.rows[end] < last):
                end += 1
            took = yield from self._consolidate(state, batch, begin, end)
            epochs = [one + more for one, more in zip(epochs, took, strict=True)]
            if block and self.held(state) == last:  # what only learning needs is needed no more
                state.pop("encoder", None)
                if self._reference_bits:
                    state["references"] = self._no_lattice()
            begin = end
        return Report(epochs)

    def _consolidate(self, state: State, batch: Batch, nth: int, end: int) -> Generator[Event, None, list[int]]:
        """Retrain the block's autoencoder on old rows and the batch's from ``nth`` to ``end``, and write all codes."""
        budget, first = self.budget, self._first(state)
        new, rows = batch.vectors[:, nth:end], batch.rows[nth:end]
        old = [row for row in self.moving(state) if row not in rows]
        if budget.rehearse is not None and budget.rehearse < len(old):
            draw = rng.arrays(0, "rehearsed skills", batch.step, nth)  # the same for all seeds, who share the rows
            old = sorted(int(i) for i in draw.choice(old, budget.rehearse, replace=False))
        vectors = torch.cat([self._targets(state, old), new], dim=1)
        samples = chunked(vectors, self.shape.inputs)
        scales = torch.ones(samples.shape[:3], device=self.device)
        if self.layers.scaled:
            scales = samples.square().mean(dim=-1).sqrt().clamp_min(1e-12)
        newest = None
        if nth <= batch.newest < end:
            newest = Newest(batch.probe, batch.original, len(old) + batch.newest - nth)
        targets = Targets(
            samples / scales.unsqueeze(-1), scales, self.size, batch.centre, newest, scaled=self.layers.scaled
        )
        fresh = self.held(state) == first
        began = self._began(state, fresh, targets, batch.step, nth)
        how = self.consolidation if fresh else self.consolidation.later()
        trained = yield from consolidate(self.shape, began, targets, self.rule, how, self.seeds, batch.step, nth)
        if not self._principal:
            state["encoder"] = trained.encoder
        flat = torch.cat([trained.decoder[name].flatten(1) for name in self._shapes], dim=1)
        self._decoders.put(state["decoder"], first // budget.block if budget.block else 0, flat)
        with torch.no_grad():
            codes = self.shape.encode(trained.encoder, targets.samples.flatten(1, 2)).unflatten(1, scales.shape[1:])
        for place, row in enumerate([*old, *rows]):
            self._latents.put(state["latents"], row, codes[:, place].flatten(1))
            state["latents"]["chunk_scales"].put(row, scales[:, place])
        if self._reference_bits:
            for place, row in enumerate(rows):
                steps = lattice.steps_of(new[:, place], self.sizes, self._reference_bits)
                self._write_lattice(state["references"], row - first, new[:, place], steps, None)
        self._correct(state, [*old, *rows], vectors, len(old))
        return trained.epochs

    def _targets(self, state: State, rows: Sequence[int]) -> Tensor:
        """Return the targets of old rows ``[S, n, P]``: their quantised references, or their recollections as they are now."""
        if not rows:
            return torch.zeros(len(self.seeds), 0, self.size, device=self.device)
        if self._reference_bits:
            first = self._first(state)
            return torch.stack([self._on_lattice(state["references"], row - first, None) for row in rows], dim=1)
        if self.budget.residual_bits:
            return torch.stack([self.recall(state, row) for row in rows], dim=1)
        return self._decoded(state, rows)

    def _began(self, state: State, fresh: bool, targets: Targets, step: int, nth: int) -> Trained:
        """Return the autoencoders that training starts from: those held, or new ones for a new block."""
        if fresh or self._principal:
            encoder = self._moved(self.shape.init_encoder(self.seeds, step, nth))
        else:
            encoder = {name: tensor.clone() for name, tensor in state["encoder"].items()}
        if self._principal:
            encoder = principal_encoder(self.shape, encoder, targets.samples.flatten(1, 2))
        if fresh:
            return Trained(encoder, self._moved(self.shape.init_decoder(self.seeds, step, nth)))
        block = self._first(state) // self.budget.block if self.budget.block else 0
        return Trained(encoder, {name: tensor.clone() for name, tensor in self._decoder(state, block).items()})

    def _correct(self, state: State, rows: Sequence[int], vectors: Tensor, old: int) -> None:
        """Write down what is missing from the decoded rows to their points on the lattice; old ones keep their lattice."""
        if not self.budget.residual_bits:
            return
        part = state["residuals"]
        for place, row in enumerate(rows):
            vector, kept = vectors[:, place], place < old
            steps = part["steps"][row] if kept else lattice.steps_of(vector, self.sizes, self.budget.residual_bits)
            self._write_lattice(part, row, vector, steps, self._decoded(state, [row])[:, 0])

    def _decoded(self, state: State, rows: Sequence[int]) -> Tensor:
        """Return the codes of these rows as decoded by their block's decoder, ``[S, n, P]``."""
        decoder = self._decoder(state, rows[0] // self.budget.block if self.budget.block else 0)
        latents = state["latents"]
        codes = torch.stack([self._latents.row(latents, row) for row in rows], dim=1)
        scales = torch.stack([latents["chunk_scales"][row] for row in rows], dim=1)
        with torch.no_grad():
            samples = self.shape.decode(decoder, codes.reshape(len(codes), -1, self.shape.latent))
        return joined(samples.unflatten(1, scales.shape[1:]) * scales.unsqueeze(-1), self.size)

    def _decoder(self, state: State, block: int) -> Weights:
        flat = self._decoders.row(state["decoder"], block)
        parts = flat.split([shape.numel() for shape in self._shapes.values()], dim=1)
        return {name: part.reshape(-1, *shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def _first(self, state: State) -> int:
        """Return the first row of the block that is still learning: all before it are full, and frozen."""
        return self.held(state) // self.budget.block * self.budget.block if self.budget.block else 0

    def _moved(self, weights: Weights) -> Weights:
        return {name: tensor.to(self.device) for name, tensor in weights.items()}

    def _no_lattice(self) -> State:
        steps = Bank.empty(len(self.seeds), (len(self.sizes),), torch.float32, self.device)
        return {**no_codes(len(self.seeds), self.device), "steps": steps}

    def _write_lattice(self, part: State, row: int, vector: Tensor, steps: Tensor, predicted: Tensor | None) -> None:
        symbols = lattice.rounded(vector, lattice.spread(steps, self.sizes), predicted)
        put_code(part, row, [lattice.packed(one) for one in symbols.cpu().numpy()])
        part["steps"].put(row, steps)

    def _on_lattice(self, part: State, row: int, predicted: Tensor | None) -> Tensor:
        codes = [torch.tensor(lattice.unpacked(code)) for code in code_of(part, row)]
        steps = lattice.spread(part["steps"][row], self.sizes)
        return lattice.located(torch.stack(codes).to(self.device), steps, predicted)
