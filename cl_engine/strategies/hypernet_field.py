"""HyperNet Fields: one generator makes, of a task's code and a time, the net that SGD would have come to by then."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import RunFailed, UsageError
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import Target, quality
from cl_engine.options import option
from cl_engine.recall.encoder import encoder_of
from cl_engine.recall.events import FieldAudited, FieldResidual
from cl_engine.recall.field import Field, sgd_path
from cl_engine.recall.generated import GeneratedNets, Make, own_weights
from cl_engine.recall.hypernetwork import Generator, GeneratorOptions
from cl_engine.recall.manifest import Manifest
from cl_engine.recall.measure import PROBE_ROWS
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.numbers import Numbers

CLIP = 1.0  # greatest norm of φ's gradient: targets are gradients of nets that may still be far off
STRETCHES = 5  # of time, that residuals are told of; and times that a past code is tried at


class HypernetField(Strategy):
    """HyperNet Field: a generator follows SGD from the start θ₀ for every task's code (Hedlin et al. 2025), continually.

    H(t, e) = θ₀ + (t/T) g(t, e; φ) is trained to take SGD's steps, ‖H(t+1, e) − H(t, e) + η ∇L(H(t, e))‖² / η², at ``pairs``
    times t drawn for each batch; nothing flows back through ∇L, and no net is ever trained. Past codes are held to what they
    made before the task, at any time: β/m Σ ‖H(t, e_k; φ*) − H(t, e_k; φ)‖², near and not to the bit. ``recall_at`` is a dial:
    the step whose net answers. Nets are made whole, heads too; BatchNorm statistics are kept for each task, found at
    ``recall_at`` by an epoch without learning.

    With ``condition = "labels"`` codes are not learned but made by an encoder of the task's labels, as of the pixels of a picture
    (stream `fields`), which must stand at the same inputs in every task: `net_at` makes nets of pictures never learned, in one
    forward pass. Codes are kept as they were made.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "hypernet_field", **{"horizon": 50})
    >>> experiment.resolved["strategy"]["eta"]
    0.5
    """

    settings = ("task",)

    horizon: int = option(150, "T, the steps of SGD that the field reaches", ge=1)
    eta: float = option(0.5, "learning rate of the SGD that it follows", gt=0)
    pairs: int = option(4, "times at each batch of learning", ge=1)
    recall_at: int | None = option(None, "step whose net answers; left out: the last", ge=0)
    audit: list[int] = option([], "steps at which the field is compared with a real run of SGD, of each task")
    condition: Literal["code", "labels"] = option(
        "code",
        "what tells tasks apart: a code that is learned, or one that an encoder makes of the labels",
        before="code",
    )
    encoder: list[int] = option([128], "widths of the encoder's hidden layers", before=[128])
    encode_from: int | None = option(
        None, "task from which on nothing is trained: codes are what the encoder makes of labels", ge=1, before=None
    )
    generating: GeneratorOptions

    def start(self) -> State:
        if (self.recall_at or 0) > self.horizon:
            raise UsageError(
                f"hypernet_field: recall_at is {self.recall_at}; the field ends at horizon, {self.horizon}"
            )
        if self.audit and not 0 <= min(self.audit) <= max(self.audit) <= self.horizon:
            raise UsageError(f"hypernet_field: audit has steps from 0 to horizon, {self.horizon}, not {self.audit}")
        if self.condition == "labels" and self.generating.warm:
            raise UsageError(
                "hypernet_field: warm starts codes that are learned; with condition = 'labels' leave it out"
            )
        if self.condition == "code" and self.encode_from is not None:
            raise UsageError("hypernet_field: encode_from is about an encoder: set condition to 'labels'")
        return self.nets.start()

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = next((target for target in targets if not isinstance(target, Numbers)), None)
        if self.condition == "labels" and odd is not None:
            raise UsageError(
                f"hypernet_field: condition = 'labels' is for tasks that differ in the numbers they ask for, and '{odd.name()}' "
                "asks for something else: use 'code'"
            )

    def learn(self, experience: Experience) -> Learning:
        task, nets = experience.task_id, self.nets
        times = [self.horizon * (k + 1) / STRETCHES for k in range(STRETCHES)]
        code, started = nets.first_code(experience, {time: self._made_at(time) for time in times})
        yield from started
        frozen, params = nets.frozen(), nets.trained(task, code)
        if self.condition == "labels":
            frozen["labels"] = self._labels(experience)
            del params["code"]
            params["encoder"] = self._encoder_for(frozen["labels"].shape[1])
        if self.encode_from is None or task < self.encode_from:
            how: Any = {"loss_inputs": partial(self._told, nets.rehearsed(experience), experience.key), "clip": CLIP}
            params = yield from self.fit(params, self.loss, experience, frozen=frozen, **how)
        if self.condition == "labels":
            self.state["encoder"] = params["encoder"]
            params["code"] = {"code": self.encoded(experience)}
        nets.keep(task, params)
        nets.settle(experience, self.train.batch)
        yield from self._residuals(experience)
        yield from self._audited(experience)
        yield from nets.drifts(frozen["before"], experience)
        yield nets.bytes(experience)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        made = self._made(params["generator"], frozen["start"], self._code(params, frozen).unsqueeze(0))[0]
        return self.net.one(self.nets.of_one(made, params.get("beside", {})), x)

    def loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, *told: Tensor) -> Tensor:
        """Return the mean of the field's mismatch over the times told, and what holds past codes at the times told after."""
        assert frozen is not None
        phi, start, beside = params["generator"], frozen["start"], params.get("beside", {})
        numbers = torch.stack(told)
        times, past = numbers[: self.pairs], numbers[self.pairs :]
        gradient = partial(self.nets.gradient, beside, x, y)
        codes = self._code(params, frozen).expand(self.pairs, -1)
        loss = self.field.mismatch(phi, start, codes, times, gradient).mean()
        if not len(past):
            return loss
        places, times = past.chunk(2)
        codes = frozen["codes"].index_select(0, places.long())
        moved = self.field.weights(phi, start, codes, times) - self.field.weights(frozen["before"], start, codes, times)
        return loss + self.generating.beta * moved.square().sum(dim=-1).mean()

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self.decoded(task_id), x)

    def decoded(self, task_id: int) -> Params:
        """Return the net of a task; of one not yet met the net that it would start from."""
        return self.nets.params(task_id)

    @property
    def read_by_recall(self) -> tuple[str, ...]:
        """Parts of the state that decoding reads."""
        return self.nets.read_by_recall

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self.nets.params(task_id, params["generator"]), x)

    def encoded(self, experience: Experience) -> Tensor:
        """Return the codes ``[S, d]`` that the encoder makes of the labels of a task, learned or not."""
        labels = self._labels(experience)
        return self._encoder(labels.shape[1]).all(self._encoder_for(labels.shape[1]), labels[:1])[:, 0]

    def net_at(self, experience: Experience, time: float) -> Params:
        """Return the nets ``{name: [S, …]}`` that SGD would come to on a task, learned or not, by a step, in one forward pass."""
        return self.nets.made(
            self.encoded(experience), self.nets.beside(len(self.state["codes"])), make=self._made_at(time)
        )

    @property
    def nets(self) -> GeneratedNets:
        """The nets of all tasks, as parts of the state."""
        return GeneratedNets(self, self._drawn, self.field.generator, self._made)

    @cached_property
    def field(self) -> Field:
        """The field of weights over time."""
        manifest = Manifest.of(self.net, self._drawn)
        generator = Generator(manifest, self.generating, self.net.device, timed=True)
        return Field(generator, self.horizon, self.eta)

    @cached_property
    def _drawn(self) -> Params:
        return self.net.init(self.seeds)

    def _code(self, params: Tree, frozen: Tree) -> Tensor:
        """Return the code ``[d]`` of the task that is being learned, of one seed."""
        if self.condition == "labels":
            labels = frozen["labels"].unsqueeze(0)
            return self._encoder(labels.shape[1]).one(params["encoder"], labels)[0]
        code: Tensor = params["code"]["code"]
        return code

    def _labels(self, experience: Experience) -> Tensor:
        """Return the labels of a task's rows as a vector of each seed ``[S, L]``."""
        target = experience.target or self.target_of(experience.task_id)
        vector = target.vectors(experience.train.y).reshape(1, -1).to(self.net.device)
        return vector.expand(len(self.seeds), -1).contiguous()

    def _encoder(self, labels: int) -> Net:
        return encoder_of(labels, tuple(self.encoder), self.generating.code, self.net.device)

    def _encoder_for(self, labels: int) -> Params:
        """Return the encoder's weights, of the first task those drawn; it has as many inputs as that task has labels."""
        encoder: Params = self.state.get("encoder") or self._encoder(labels).init(self.seeds)
        taken = next(iter(encoder.values())).shape[-1]
        if taken != labels:
            raise UsageError(
                f"hypernet_field: a task has {labels} numbers to ask for, and the first had {taken}; with condition = 'labels' "
                "all must have as many"
            )
        return encoder

    def _made_at(self, time: float) -> Make:
        def made(phi: Params, start: Tensor, codes: Tensor) -> Tensor:
            return self.field.weights(phi, start, codes, torch.full((len(codes),), time, device=codes.device))

        return made

    def _made(self, phi: Params, start: Tensor, codes: Tensor) -> Tensor:
        return self._made_at(float(self.horizon if self.recall_at is None else self.recall_at))(phi, start, codes)

    def _told(self, rehearsed: Any, key: int, epoch: int, batch: int, batches: int) -> Sequence[float]:
        """Return the times of a batch, then the rows of the past codes to be held, and a time for each."""
        number = epoch * batches + batch
        past = rehearsed(epoch, batch, batches)
        drawn = rng.arrays(0, "times", key, epoch, batch).uniform(0, self.horizon, len(past)).tolist() if past else []
        return [*self.field.times(self.pairs, number), *past, *drawn]

    def _seed(self, seed: int, task: int) -> tuple[Params, Tensor, Tensor, Params]:
        """Return φ, θ₀, the task's code, and what is beside, of one seed."""
        nets, state = self.nets, self.state
        phi, beside = own_weights(state["generator"], seed), own_weights(nets.beside(task), seed)
        return phi, state["start"][seed], nets.code(task)[seed].clone(), beside

    def _residuals(self, experience: Experience) -> Learning:
        rows = experience.train.spread(PROBE_ROWS)
        x, y = self.net.laid_out(self.net.prepare(rows.x)), rows.y
        edges = [round(self.horizon * k / STRETCHES) for k in range(STRETCHES + 1)]
        middles = torch.tensor([(low + high) // 2 for low, high in pairwise(edges)], device=x.device)
        shares = []
        for seed in range(len(self.seeds)):
            phi, start, code, beside = self._seed(seed, experience.task_id)
            lengths: list[Tensor] = []

            def gradient(weights: Tensor, beside: Params = beside, lengths: list[Tensor] = lengths) -> Tensor:
                found = self.nets.gradient(beside, x, y, weights)
                lengths.append(found.norm(dim=1))
                return found

            with torch.no_grad():
                off = self.field.mismatch(phi, start, code.expand(STRETCHES, -1), middles.float(), gradient).sqrt()
            shares.append((off / lengths[0].clamp_min(1e-12)).tolist())
        for stretch, value in enumerate(zip(*shares, strict=True)):
            part = f"t {edges[stretch]}–{edges[stretch + 1]}"
            yield FieldResidual(step=experience.step, task_id=experience.task_id, part=part, value=tuple(value))

    def _audited(self, experience: Experience) -> Learning:
        """Run SGD from the same start on the rows of the task, and tell of both at each time that is asked for."""
        train, at = experience.train, sorted(set(self.audit))
        if not at:
            return
        data = experience.validation if len(experience.validation) else train
        judged = data.spread(PROBE_ROWS)
        paths = []
        for seed, number in enumerate(self.seeds):
            _, start, _, beside = self._seed(seed, experience.task_id)

            def gradient(weights: Tensor, index: Tensor, beside: Params = beside) -> Tensor:
                x = self.net.laid_out(self.net.prepare(train.x[index]))
                return self.nets.gradient(beside, x, train.y[index], weights.unsqueeze(0))[0]

            key = rng.derive(number, experience.key)
            paths.append(sgd_path(gradient, start, len(train), self.train.batch, self.eta, at, key))
        for time, reached in zip(at, zip(*paths, strict=True), strict=True):
            sgd, task = torch.stack(reached), experience.task_id
            if not bool(sgd.isfinite().all()):
                raise RunFailed(
                    f"hypernet_field: SGD itself diverges before step {time} of task {task}, with eta {self.eta} and horizon "
                    f"{self.horizon}: lower eta"
                )
            field = self.nets.vectors(self.nets.code(task).unsqueeze(1), make=self._made_at(float(time)))[:, 0]
            way = (sgd - self.state["start"]).norm(dim=1).clamp_min(1e-12)
            scores = []
            for vector in (field, sgd):
                logits = self.net.all(self.nets.manifest.params(vector, self.nets.beside(task)), judged.x)
                scores.append(tuple(quality(self.target, logits, judged.y).tolist()))
            yield FieldAudited(
                step=experience.step,
                task_id=task,
                time=time,
                distance=tuple(((field - sgd).norm(dim=1) / way).tolist()),
                accuracy=scores[0],
                accuracy_sgd=scores[1],
            )
