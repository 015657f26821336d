"""A net a task: the reference that transfer is measured against."""

from __future__ import annotations

from torch import Tensor

from cl_engine.core.bank import Bank, empty_banks
from cl_engine.core.state import State
from cl_engine.data.stream import Experience, Stream
from cl_engine.nn.net import Params
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.grid import Grid, fit_best
from cl_engine.training.held_out import held_out_tested


class Independent(Strategy):
    """Independent: a new net for every task, each kept whole; no transfer, no forgetting, memory grows by a net a task.

    A task that comes back goes on from its own net. Where rates or decays are listed, each task has the best of them and the
    best epoch, by validation rows, as MNTDP's paths have: transfer measured against it is then like with like. What a net
    comes to on validation rows is told, where a stream sets some aside: others may measure theirs by it (``losses_from``).

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "independent", **{"train.epochs": 3})
    >>> experiment.resolved["train"]["epochs"]
    3
    """

    settings = ("task",)
    per_seed = True
    read_by_recall = ("nets", "frozen")

    grid: Grid

    def start(self) -> State:
        first = self._first()
        weights = empty_banks(first, without=self.net.frozen)
        # what the net itself has frozen is the same for all tasks
        frozen = {name: row for name, row in first.items() if name in self.net.frozen}
        return {"nets": weights, **({"frozen": frozen} if frozen else {})}

    def check_stream(self, stream: Stream) -> None:
        self.grid.check_stream(stream)

    def learn(self, experience: Experience) -> Learning:
        params = yield from fit_best(self, self.grid, self.decoded(experience.task_id), experience)
        for name, bank in self.state["nets"].items():
            bank.put(experience.task_id, params[name])
        if len(experience.validation):
            yield held_out_tested(lambda x: self.net.all(params, x), self.target, experience)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self.decoded(task_id), x)

    def decoded(self, task_id: int) -> Params:
        """Return the net of a task; of one not yet met the net that it would start from."""
        nets: dict[str, Bank] = self.state["nets"]
        if task_id >= len(next(iter(nets.values()))):
            return self._first()
        return {**self.state.get("frozen", {}), **{name: bank[task_id] for name, bank in nets.items()}}

    def fingerprint(self, task_id: int | None) -> int | None:
        bank: Bank = next(iter(self.state["nets"].values()))
        return None if task_id is None else bank.writes(task_id)

    def _first(self) -> Params:
        return self.net.init(self.seeds)
