"""Attentive single-tasking: one net for all tasks, modulated for the one that is executed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor

from cl_engine.adapters.modulation import Modulation, ModulationLearned, Part
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree, tree_map
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.masks import guard
from cl_engine.modules.adversary import JudgeScored, judge, reversal, told_apart, with_adversary
from cl_engine.nn.head import HEAD, HEAD_BIAS, HEAD_WEIGHT, apply_head
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import FitOptions, Rows, RowsBeside
from cl_engine.training.rehearsal import group_name, group_of, keep_rows, rows_by_task
from cl_engine.training.sampled_fit import Sampling, sampled_fit

LOOKED_AT = 256  # rows of a task that gates, and the judge, are measured on
JUDGE_RATE = 10.0  # of the judge's learning rate to the trunk's (as released)


class SingleTasking(Strategy):
    """Single-tasking: normalisation, gates and adapters a task in one net (ASTMT; Maninis, Radosavovic & Kokkinos 2019).

    ``form = "frozen"``: the trunk stays as it is, each task learns its own parts, and nothing is ever forgotten. ``form =
    "joint"``: the rows of all tasks so far are kept and counted, and trunk and parts are trained on them anew. The rows of a
    step are spread over the tasks, and a task weighs as much as it has rows; one step is taken for all, where the release
    takes one after each. The learning rate of a task's own parts is multiplied by the number of tasks, as released, where the
    optimiser is plain SGD, whose steps shrink with a task's share of the loss; their weight decay is 0.

    Without ``norms`` among the parts, normalisation belongs to the trunk: frozen, or learned by all tasks together. ``parts =
    []`` is a net that tasks share as it is, with heads of their own.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "single_tasking", **{"parts": ["norms", "adapters"]})
    >>> experiment.resolved["strategy"]["form"]
    'frozen'
    """

    settings = ("task",)

    form: Literal["frozen", "joint"] = option(
        "frozen", "the trunk: frozen, or trained anew on all tasks so far, whose rows are kept"
    )
    backbone: Literal["initial", "first_task"] = option(
        "initial", "the frozen trunk: as the scenario starts it (random or pre-trained), or trained on the first task"
    )
    parts: list[Part] = option(
        ["norms", "se", "adapters"],
        "what a task has of its own beside its head: norms (normalisation layers), se (squeeze-and-excitation), adapters",
    )
    reduction: int = option(16, "channels that one channel inside squeeze-and-excitation stands for", ge=1)
    adversary: float = option(
        0.0, "weight of the adversary that names tasks by their gradients (joint; released: 0.01)", ge=0, lt=1
    )
    wait_for: int = option(
        1, "tasks that must have come before they are first trained (joint); until then answers are untrained", ge=1
    )

    practice: Sampling  # joint: which task is practised more
    _references: Tensor | None = None

    def start(self) -> State:
        seeds, modulation = len(self.seeds), self._modulation
        own = {"modulations": modulation.empty(seeds, self.net.device)} if modulation.layout.size else {}
        return {
            "trunk": self.net.init(self.seeds),
            **own,
            **self._modulation.norms.start(seeds),
            "heads": empty_heads(self.net, seeds),
        }

    def check_stream(self, stream: Stream) -> None:
        if self.form == "frozen" and (self.adversary or self.wait_for > 1):
            name = "adversary" if self.adversary else "wait_for"
            raise UsageError(
                f"strategy.{name}: found {getattr(self, name)}, and form = 'frozen' trains each task by itself: use "
                "form = 'joint', or leave it out"
            )
        if self.form == "frozen" and self.practice.sampling != "uniform":
            raise UsageError(
                "strategy.sampling: form = 'frozen' trains each task by itself: use form = 'joint', or leave it out"
            )
        self._references = self.practice.references(stream)
        if stream.n_tasks is not None and self.wait_for > stream.n_tasks:
            raise UsageError(
                f"strategy.wait_for: found {self.wait_for}, and the stream has {stream.n_tasks} tasks: nothing would be learned"
            )

    def learn(self, experience: Experience) -> Learning:
        task, state, train = experience.task_id, self.state, experience.train
        if self.form == "joint":
            keep_rows(state, group_name("data", group_of(self.target_of, task)), train, task)
            rows = rows_by_task(state, "data")
            if len(rows) >= self.wait_for:
                yield from self._learn_together(experience, rows)
        elif self.backbone == "first_task" and not len(state["heads"]):
            yield from self._learn_together(experience, {task: (train.x, train.y)})
            state["trunk"] = {**state["trunk"], **self._own(task)["norm"]}
        else:
            with guard.frozen(state["trunk"], "single_tasking: the trunk"):
                own = yield from self.fit(self._own(task, training=True), self.loss, experience, frozen=state["trunk"])
            self._keep(task, own)
            yield from self._told(experience.step, task, train.x)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        return self._said(frozen, params, x, statistics=self._modulation.norms.tracking)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        tree = {"trunk": self.state["trunk"], "own": self._own(task_id)}
        return self.net.over_seeds(lambda one, part: self._said(one["trunk"], one["own"], part), tree, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        assert task_id is not None
        heads: Bank = self.state["heads"]
        if self.form == "joint":
            return None
        if task_id < len(heads):
            return heads.writes(task_id)
        return -1 if self.backbone == "first_task" and len(heads) else 0

    @property
    def growing(self) -> bool:
        return self.form == "joint"

    def fitted_groups(self, rows: Sequence[int], asked: Sequence[str]) -> Sequence[Sequence[int]]:
        if self.form == "frozen":
            return super().fitted_groups(rows, asked)
        return [list(rows[:count]) if count >= self.wait_for else [0] for count in range(1, len(rows) + 1)]

    @cached_property
    def _modulation(self) -> Modulation:
        return Modulation(self.net, self.parts, self.reduction)

    def _learn_together(self, experience: Experience, rows: Mapping[int, Rows]) -> Learning:
        """Train the trunk anew, and the parts of these tasks, on their rows."""
        fresh, task, judged = self.start(), experience.task_id, bool(self.adversary) and len(rows) > 1
        shared = {
            name: tensor
            for name, tensor in fresh["trunk"].items()
            if name not in self._modulation.norms.layout.shapes and name not in HEAD
        }
        # a key, so an optimiser, of each task: what torch's fused SGD is given has gradients in every step, or in none
        own = {str(each): self._own(each, training=True, state=fresh) for each in rows}
        parts: Tree = {"trunk": shared, **own}
        if judged:
            parts["judge"] = judge(self.seeds, self.net.width, len(rows), self.net.device)
        share = len(rows) if self.train.optimizer == "sgd" else 1
        how: FitOptions = {
            "rows": rows[task],
            "beside": [RowsBeside(of_task, self._loss_of(each)) for each, of_task in rows.items() if each != task],
            "logits": lambda params, frozen, x: self._said(params["trunk"], params[str(task)], x),
            "overrides": {
                name: self.train.model_copy(update={"lr": self.train.lr * times, "weight_decay": 0.0})
                for name, times in {**dict.fromkeys(own, share), "judge": JUDGE_RATE}.items()
            },
        }
        if judged:  # vmap differentiates no gradients of gradients
            how |= {"side_by_side": False, "loss_inputs": self._progress}
        tasks = torch.tensor(list(rows), device=self.net.device)

        def answers(params: Tree, frozen: Tree | None, x: Tensor, t: Tensor) -> Tensor:
            every = torch.stack([self._said(params["trunk"], params[str(each)], x) for each in rows])
            return every[t, torch.arange(len(x), device=x.device)]

        how_much: Any = {"tasks": tasks, "answers": answers, "references": self._references}
        trained = yield from sampled_fit(self, self.practice, parts, self._loss_of(task), experience, **how_much, **how)
        self.state["trunk"] = {**fresh["trunk"], **trained["trunk"]}
        for each, (x, y) in rows.items():
            self._keep(each, trained[str(each)])
            yield from self._told(experience.step, each, x)
            if judged:
                yield self._judged(experience.step, each, len(rows), trained, (x, y))

    def _loss_of(self, task: int) -> Callable[..., Tensor]:
        """Return the loss of rows of a task, of one seed; with an adversary it is given the share of training that is over."""
        target = self.target_of(task)

        def loss(params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, progress: Tensor | None = None) -> Tensor:
            trunk, own = params["trunk"], params[str(task)]
            # tasks are met in order, so that a task is at its own place
            weight = params["sampling"]["weight"][task].detach() if "sampling" in params else x.new_ones(())
            if progress is None:
                return target.loss(self._said(trunk, own, x), y) * weight
            features = self._features(trunk, own, x)
            plain = target.loss(apply_head(features, own["head"][HEAD_WEIGHT], own["head"][HEAD_BIAS]), y)
            return with_adversary(params["judge"], plain * weight, features, task, self.adversary, reversal(progress))

        return loss

    def _progress(self, epoch: int, batch: int, batches: int) -> Sequence[float]:
        return ((epoch + batch / batches) / self.train.epochs,)

    def _weights(self, trunk: Tree, own: Tree) -> Params:
        """Return the weights of one seed's net that answer with a task's parts."""
        adapted = self._modulation.applied(trunk, own.get("modulation", {}))
        return {**trunk, **adapted, **own.get("norm", {}), **own["head"]}

    def _said(
        self, trunk: Tree, own: Tree, x: Tensor, statistics: bool = True, noted: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Return the outputs ``[N, O, …]`` of one seed's net with a task's parts."""
        hooks = self._modulation.hooks(own.get("modulation", {}), noted)
        return self.net.one(self._weights(trunk, own), x, statistics=statistics, hooks=hooks)

    def _features(self, trunk: Tree, own: Tree, x: Tensor) -> Tensor:
        """Return what the head reads, of one seed's net with a task's parts."""
        return self.net.features(self._weights(trunk, own), x, hooks=self._modulation.hooks(own.get("modulation", {})))

    def _own(self, task_id: int, training: bool = False, state: State | None = None) -> Tree:
        """Return the parts of a task, those that it would start from if it was not yet met."""
        state = self.state if state is None else state
        modulation, trunk = self._modulation, state["trunk"]
        own, norms = modulation.start(self.seeds, trunk), modulation.norms.trained if training else modulation.norms.of
        if "modulations" in state and task_id < len(state["modulations"]):
            own = modulation.of(state["modulations"], task_id)
        return {
            "modulation": own,
            "norm": norms(state, task_id, trunk),
            "head": head_for(state["heads"], task_id, trunk),
        }

    def _keep(self, task_id: int, own: Tree) -> None:
        if "modulations" in self.state:
            self._modulation.put(self.state["modulations"], task_id, own["modulation"])
        self._modulation.norms.put(self.state, task_id, own.get("norm", {}))
        self.state["heads"].put(task_id, row_of(own["head"]))

    def _told(self, step: int, task: int, x: Tensor) -> Iterator[Event]:
        """Yield what the task makes of each layer that it modulates; mean gates are those of some of its rows."""
        modulation, trunk, own = self._modulation, self.state["trunk"], self._own(task)
        gates: dict[str, Tensor] = {}
        if modulation.gated:

            def noting(one: Tree, part: Tensor) -> Tensor:
                noted: dict[str, Tensor] = {}
                self._said(one["trunk"], one["own"], part, noted=noted)
                return torch.stack([noted[layer].mean() for layer in modulation.gated]).expand(len(part), -1)

            found = self.net.over_seeds(noting, {"trunk": trunk, "own": own}, _spread(x)).mean(dim=1)
            gates = dict(zip(modulation.gated, found.unbind(dim=1), strict=True))
        norms = {
            layer: own["modulation"][f"{layer}:adapter"].flatten(1).norm(dim=1)
            / trunk[f"{layer}.weight"].flatten(1).norm(dim=1)
            for layer in modulation.adapted
        }
        for layer in dict.fromkeys((*gates, *norms)):
            yield ModulationLearned(
                step=step,
                part=layer,
                task_id=task,
                gate=tuple(gates[layer].tolist() if layer in gates else [1.0] * len(self.seeds)),
                adapter=tuple(norms[layer].tolist() if layer in norms else [0.0] * len(self.seeds)),
            )

    def _judged(self, step: int, task: int, tasks: int, trained: Tree, rows: Rows) -> JudgeScored:
        """Return how often the judge of each seed names a task, from gradients on some of its rows."""
        x, y = (_spread(each) for each in rows)
        target, right = self.target_of(task), []
        for seed in range(len(self.seeds)):
            tree = tree_map(partial(_of_seed, seed), trained)
            own = tree[str(task)]
            head = partial(apply_head, weight=own["head"][HEAD_WEIGHT], bias=own["head"][HEAD_BIAS])

            def loss(maps: Tensor, head: Callable[[Tensor], Tensor] = head) -> Tensor:
                return target.loss(head(maps), y)

            right.append(told_apart(tree["judge"], loss, self._features(tree["trunk"], own, x), task))
        return JudgeScored(step=step, task_id=task, tasks=tasks, accuracy=tuple(right))


def _spread(rows: Tensor) -> Tensor:
    """Return at most so many rows as are looked at, evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).long().to(rows.device)]


def _of_seed(seed: int, leaf: Tensor) -> Tensor:
    return leaf[seed]
