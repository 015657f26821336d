"""MNTDP, the stochastic search: a distribution over paths is learned with the modules on them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree, leaves_with_path, unflatten
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.modules.candidates import Prior, candidates
from cl_engine.modules.events import PathSampled
from cl_engine.modules.growth import Growth
from cl_engine.nn.head import HEAD_BIAS
from cl_engine.nn.net import Params
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.early_stopping import where_seeds
from cl_engine.training.fit_job import Curve, TrainingProbe
from cl_engine.training.grid import divided

NEVER = -1e4  # the logit of a path that is none for a seed: its chance is 0 in float32


class MntdpS(Strategy):
    """MNTDP-S: modular networks with a task-driven prior, the stochastic search (Veniat, Denoyer & Ranzato 2021).

    The paths that reuse modules of the past model which suits a new task best (nearest neighbours) get probabilities. Every
    batch samples one path and trains what is new on it with half of its rows; the other half tells what two sampled
    paths lose, which moves their probabilities (policy gradient, each the other's baseline). When the distribution
    has settled its likeliest path is kept, trained on, and frozen. Not as published: one path a batch instead of one a
    row, an even start (new modules lose to old ones until they have learned something), and one setting of rates and
    costs instead of a grid.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "mntdp_s", **{"search": 0.5})
    >>> experiment.resolved["strategy"]["search"]
    0.5
    """

    settings = ("task",)
    cost: ClassVar[Literal["flat", "growing"]] = "growing"

    prior: Prior = option("forward", "paths sampled: old modules first, also old modules last, or between old ones too")
    k: int = option(15, "neighbours that vote for a past model", ge=1)
    rows: int = option(1000, "training and validation rows that past models are tried on, at most each", ge=1)
    path_lr: float = option(0.1, "learning rate of the distribution over paths (Adam)", gt=0)
    entropy: float = option(0.01, "weight of the entropy of the distribution: more keeps it open for longer", ge=0)
    warm_up: float = option(
        0.5, "share of the search in which paths are sampled evenly, before probabilities move", ge=0
    )
    size_cost: float = option(0.01, "added to the loss of a path with nothing but new weights, in part to others", ge=0)
    settled: float = option(0.1, "entropy in nats below which the distribution is frozen", ge=0)
    search: float = option(1.0, "most epochs of the search, as a multiple of train.epochs", gt=0)
    aside: float = option(
        0.2,
        "share of the training rows that epochs are chosen on, where the stream sets no validation rows aside",
        gt=0,
        lt=1,
    )

    def start(self) -> State:
        return self._growth.start()

    def learn(self, experience: Experience) -> Learning:
        growth, state = self._growth, self.state
        if experience.task_id < len(state["paths"]):
            return
        experience = divided(experience, self.aside)
        ranked = yield from growth.ranked(state, experience, k=self.k, rows=self.rows)
        fresh = growth.fresh(experience.key)
        sources = [tasks[0] for tasks in ranked] if ranked[0] else None
        path = torch.zeros(len(self.seeds), growth.depths, dtype=torch.int64, device=self.net.device)
        self._paths = [(False,) * growth.depths]
        old, new = fresh, fresh
        chosen = torch.zeros(len(self.seeds), dtype=torch.int64, device=self.net.device)
        if sources is not None:
            path, same = growth.paths_of(state, sources), growth.same_outputs(state, sources, experience)
            self._paths = candidates(self.prior, growth.depths, same_outputs=bool(same.any()))
            old = growth.along(state, path)
            chosen, new = yield from self._searched(old, fresh, experience, self._open(same))
        frozen = {"old": old, "path": chosen.cpu()}  # read by Python in every step
        reuses = [self._paths[one] for one in chosen.tolist()]
        if not all(all(reuse) for reuse in reuses):
            validation = (experience.validation.x, experience.validation.y)
            fitted = yield from self.fit(
                {"new": new}, self.loss, experience, frozen=frozen, validation=validation, side_by_side=False
            )
            new = fitted["new"]
        flags = torch.tensor([[not one for one in reuse] for reuse in reuses], device=self.net.device)
        params = self._mixed(old, new, flags)
        accuracy = growth.accuracy(params, experience)
        yield from growth.keep(state, experience, params, path, flags, source=sources, validation=accuracy)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        path = frozen["path"] if "path" in frozen else params["choice"]["logits"].argmax()  # the likeliest so far
        return self._along(int(path), frozen["old"], params["new"], x)

    def loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        # a path without anything new has no gradient: let there be one, of zero
        nothing: Tensor = 0.0 * params["new"][HEAD_BIAS].sum()
        return self.target.loss(self.logits(params, frozen, x), y) + nothing

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return ()  # where the stream sets no validation rows aside, this strategy does

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self._growth.predict(self.state, x, task_id)

    def fingerprint(self, task_id: int | None) -> int | None:
        return self._growth.fingerprint(self.state, task_id)

    @cached_property
    def _growth(self) -> Growth:
        return Growth(self.net, self.seeds, self.target_of)

    def _open(self, same: Tensor) -> Tensor:
        """Return logits of paths that are equally likely, but for those whose head does not fit a seed's task ``[S, paths]``."""
        by_head = torch.tensor([path[-1] for path in self._paths], device=same.device)
        return torch.where(by_head & ~same.unsqueeze(1), NEVER, 0.0)

    def _searched(
        self, old: Params, fresh: Params, experience: Experience, logits: Tensor
    ) -> Generator[Event, None, tuple[Tensor, Params]]:
        """Learn the distribution over paths; return the likeliest path ``[S]`` and what has been learned of new modules.

        A seed keeps what it has when its own distribution has settled; the search goes on for the others.
        """
        rows, settled = experience.train, torch.zeros(len(self.seeds), dtype=torch.bool, device=self.net.device)
        draws = torch.rand(len(rows), generator=rng.tensors(0, "paths", experience.key)).to(rows.y.device)
        found: Tree = {"new": fresh, "choice": {"logits": logits}}
        train = self.train.model_copy(update={"epochs": max(1, round(self.search * self.train.epochs))})
        searching = self.fit(
            found,
            self._search_loss,
            experience,
            frozen={"old": old},
            rows=(rows.x, rows.y, draws),
            train=train,
            overrides={"choice": train.by("adam", lr=self.path_lr)},
            logits=self.logits,
            curve=Curve(self.curve.batches, 1),
            side_by_side=False,
            loss_inputs=lambda epoch, batch, batches: [float(epoch + batch / batches >= self.warm_up * train.epochs)],
        )
        new = torch.tensor([[not one for one in path] for path in self._paths], device=self.net.device)
        batches = train.batches(len(rows))
        for event in searching:
            if not isinstance(event, TrainingProbe) or self.curve.wants(event.batch, batches):
                yield event  # the learning curve is that of the likeliest path, from the start of the search
            if isinstance(event, TrainingProbe) and event.batch and event.batch % batches == 0:
                before = dict(leaves_with_path(found))
                now = leaves_with_path(event.params())
                found = unflatten({path: where_seeds(settled, before[path], leaf) for path, leaf in now})
                chances = torch.softmax(found["choice"]["logits"], dim=1)
                entropy = torch.special.entr(chances).sum(dim=1)
                yield PathSampled(
                    step=experience.step,
                    task_id=experience.task_id,
                    epoch=event.epoch - 1,
                    entropy=tuple(entropy.tolist()),
                    new=tuple((chances @ new.sum(dim=1).to(chances)).tolist()),
                )
                settled |= entropy < self.settled
                if bool(settled.all()):
                    searching.close()
        return found["choice"]["logits"].argmax(dim=1), found["new"]

    def _search_loss(
        self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, draws: Tensor, moves: Tensor
    ) -> Tensor:
        """Return the loss that trains new modules on one sampled path, and the distribution that paths are sampled from."""
        assert frozen is not None
        half, last = max(1, len(x) // 2), len(self._paths) - 1
        log_chances = torch.log_softmax(params["choice"]["logits"], dim=0)
        chances = log_chances.exp()
        sampled = torch.searchsorted(chances.detach().cumsum(dim=0), draws[:3]).clamp_max(last).tolist()
        taken, one, other = sampled[0], sampled[len(sampled) // 2], sampled[-1]
        loss = self.target.loss(self._along(taken, frozen["old"], params["new"], x[:half]), y[:half])
        asked_x, asked_y = (x[half:], y[half:]) if len(x) > half else (x, y)
        with torch.no_grad():
            costs = [
                self.target.loss(self._along(path, frozen["old"], params["new"], asked_x, training=False), asked_y)
                + self.size_cost * self._share_new(path)
                for path in (one, other)
            ]
        gain = 0.5 * (costs[0] - costs[1]) * (log_chances[one] - log_chances[other])
        return loss + moves * (gain + self.entropy * (chances * log_chances).sum())

    def _along(self, path: int, old: Params, new: Params, x: Tensor, training: bool | None = None) -> Tensor:
        names = self._growth.new_names(self._paths[path])
        learned = {name: new[name] for name in names}
        return self.net.one({**old, **learned}, x, training, statistics=self._growth.tracking(learned))

    def _share_new(self, path: int) -> float:
        sizes = [layout.size for layout in self._growth.library.layouts]
        return sum(size for size, old in zip(sizes, self._paths[path], strict=True) if not old) / sum(sizes)

    def _mixed(self, old: Params, new: Params, flags: Tensor) -> Params:
        """Return new modules where ``flags [S, depths]`` say so, old ones elsewhere."""
        return {
            name: where_seeds(flags[:, depth], new[name], old[name])
            for depth, part in enumerate(self._growth.parts)
            for name in part
        }
