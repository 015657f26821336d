"""One net that is told which modules a task is put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Composition, Experience, Stream, alone
from cl_engine.modules.film import Film
from cl_engine.nn.head import apply_head
from cl_engine.nn.task_heads import empty_heads, head_for, row_of, weighted_loss
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import RowsBeside
from cl_engine.training.rehearsal import group_name, group_of, keep_rows, kept_rows, rows_fitted_together
from cl_engine.training.sampled_fit import Sampling, sampled_fit

Module = tuple[int, str]  # its place in the sequence, −1 that of the rule


class Conditioned(Strategy):
    """Conditioned: one net for all tasks, modulated by which modules each is put together from, trained on all data so far.

    A stream may say which modules a task's inputs come through, one after the other, and what is asked about them
    (`cl_engine.data.stream.Composition`). Each module, at each place of the sequence, has a row γ, β; their sum modulates the
    outputs of the net's modules (FiLM; Perez et al. 2018), which is a linear map of a vector with a one for each module. So
    the same modules in another order are another task. A head belongs to what is asked. A composition not yet met is answered
    by the rows and the head of its modules; modules not yet met leave the net as it is. Where the stream says nothing, each
    task is a module of its own.

    As in ``joint``, a new net is trained after each experience, and all rows are kept and counted; normalisation layers are
    shared by all tasks. Conditioning on a sequence of sub-goals is from Lim et al. (2022); the net and FiLM are not theirs.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "conditioned", **{"conditioning": False})
    >>> experiment.resolved["strategy"]["sampling"]
    'uniform'
    """

    settings = ("task",)
    validates = False
    cost = "growing"

    conditioning: bool = option(True, "whether the net is told a task's modules; false: its head alone is (a control)")
    practice: Sampling
    _references: Tensor | None = None
    _composition: Callable[[int], Composition] = staticmethod(alone)

    def start(self) -> State:
        seeds, device = len(self.seeds), self.net.device
        rows = {"modules": Bank.empty(seeds, (self._film.size,), device=device)} if self.conditioning else {}
        return {"net": self.net.init(self.seeds), "heads": empty_heads(self.net, seeds), **rows, "met": 0}

    def check_stream(self, stream: Stream) -> None:
        self._references, self._composition = self.practice.references(stream), stream.composition

    def drawn(self) -> Strategy:
        twin = super().drawn()
        assert isinstance(twin, Conditioned)
        twin._composition = self._composition
        return twin

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        group = group_of(self.target_of, task)
        keep_rows(state, group_name("data", group), experience.train, task)
        kept = kept_rows(state, "data")
        own, state["met"] = kept.pop(group), max(state["met"], task + 1)
        self._fitted = self._vectors(state["met"])
        trained = yield from sampled_fit(
            self,
            self.practice,
            self._untrained(),
            weighted_loss(self.target, self._answers),
            experience,
            tasks=torch.arange(state["met"], device=self.net.device),
            answers=self._answers,
            references=self._references,
            rows=own,
            beside=[RowsBeside(rows, weighted_loss(self.target_of(g), self._answers)) for g, rows in kept.items()],
            logits=partial(self._of_task, task),
        )
        state["net"] = trained["net"]
        for name in ("heads", "modules") if self.conditioning else ("heads",):
            for place, row in enumerate(trained[name].unbind(dim=1)):
                state[name].put(place, row)

    def fitted_groups(self, rows: Sequence[int], asked: Sequence[str]) -> Sequence[Sequence[int]]:
        return rows_fitted_together(rows, asked)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        state, wanted = self.state, self._composition(task_id)
        rules, modules = self._known(state["met"])
        rule = rules.index(wanted.rule) if wanted.rule in rules else len(rules)
        tree: Tree = {"net": {**state["net"], **head_for(state["heads"], rule, state["net"])}}
        if self.conditioning:
            rows = [state["modules"][modules.index(module)] for module in modules_of(wanted) if module in modules]
            none = torch.zeros(len(self.seeds), self._film.size, device=self.net.device)
            tree["numbers"] = torch.stack([none, *rows]).sum(dim=0).unsqueeze(1)
        return self.net.over_seeds(self._answer, tree, x)

    @cached_property
    def _film(self) -> Film:
        return Film(self.net)

    def _answer(self, own: Tree, x: Tensor) -> Tensor:
        """Return outputs of one seed for rows of one task."""
        return self.net.one(own["net"], x, False, hooks=self._film.hooks(own["numbers"]) if "numbers" in own else None)

    def _answers(self, params: Tree, frozen: Tree | None, x: Tensor, t: Tensor) -> Tensor:
        """Return outputs of one seed for rows of the tasks ``t [N]``, while it is fitted."""
        rules, vectors = self._fitted
        hooks = None
        if self.conditioning:
            hooks = self._film.hooks((vectors @ params["modules"]).index_select(0, t))
        features = self.net.features(params["net"], x, hooks=hooks)
        heads = params["heads"].index_select(0, rules.index_select(0, t))
        return apply_head(features, heads[..., :-1], heads[..., -1])

    def _of_task(self, task: int, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self._answers(params, frozen, x, torch.full((len(x),), task, dtype=torch.int64, device=x.device))

    def _known(self, met: int) -> tuple[list[str], list[Module]]:
        """Return what has been asked in the tasks met, and their modules, each once, in the order in which they came."""
        made = [self._composition(task) for task in range(met)]
        rules = dict.fromkeys(one.rule for one in made)
        return list(rules), list(dict.fromkeys(module for one in made for module in modules_of(one)))

    def _vectors(self, met: int) -> tuple[Tensor, Tensor]:
        """Return of the tasks met which head is theirs ``[T]``, and a vector with a one for each module ``[T, M]``."""
        rules, modules = self._known(met)
        made = [self._composition(task) for task in range(met)]
        ones = [[float(module in modules_of(one)) for module in modules] for one in made]
        device = self.net.device
        return torch.tensor([rules.index(one.rule) for one in made], device=device), torch.tensor(ones, device=device)

    def _untrained(self) -> Tree:
        """Return a net with a head for all that is asked, and modules that leave it as it is."""
        (rules, vectors), net = self._fitted, self.net.init(self.seeds)
        heads = row_of(net).unsqueeze(1).repeat(1, int(rules.max()) + 1, 1, 1)
        rows = torch.zeros(len(self.seeds), vectors.shape[1], self._film.size, device=self.net.device)
        return {"net": net, "heads": heads, **({"modules": rows} if self.conditioning else {})}


def modules_of(composition: Composition) -> list[Module]:
    """Return the modules of a task, each with its place in the sequence, last the rule."""
    return [*enumerate(composition.inputs), (-1, composition.rule)]
