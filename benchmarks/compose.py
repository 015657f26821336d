"""Compositional Models: adaptation without labels by re-ordering alone, against nets that are changed.

    PYTHONPATH=. python benchmarks/compose.py | tee benchmarks/output/compose.txt

The scenario `compose_turns_mnist`, three seeds; needs MNIST under $CL_DATA_ROOT. Four tasks train blocks together; the fifth
is a composition that none of them showed. The first rows change nothing for it, the second finds an order without a
label, the last is one net trained with labels, as one would without blocks.
"""

from __future__ import annotations

import numpy as np
import torch

from cl_engine.analysis.scores.statistics import mean_and_deviation
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import cells
from cl_engine.experiment import Experiment
from cl_engine.modules.reordering import certainty
from cl_engine.strategies.compose import Compose

SCENARIO, SEEDS, LAST = "compose_turns_mnist", (0, 1, 2), 4


def walked(strategy: str, **options: object) -> tuple[object, object, dict[tuple[int, int], np.ndarray]]:
    """Run a strategy; return stream, learner and accuracy by experience and task, ``[S]``."""
    experiment = Experiment.of(SCENARIO, strategy, SEEDS, **options)
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    table = {}
    for event in simulate(stream, learner, plan(stream, experiment.agenda)):
        for cell in cells(event):
            table[cell.step, cell.task_id] = np.array(cell.n_correct) / cell.n_total
    return stream, learner, table


def row(name: str, target: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Print accuracy on the composition, and on the sources before and after it."""
    print(f"{name:<46}{mean_and_deviation(target):>16}{before.mean():>10.3f}{after.mean():>9.3f}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, seeds 0 to 2, one thread\n{'':<46}{'composition':>15}{'sources before, after':>24}"
    )
    stream, learner, table = walked("compose")
    assert isinstance(learner, Compose)
    before = np.mean([table[LAST - 1, task] for task in range(LAST)], axis=0)
    test = stream.test(LAST)
    unadapted = np.array(
        [(learner.predict(test.x, task).argmax(-1) == test.y).float().mean(-1).numpy() for task in range(LAST)]
    )
    row("best of the four orders as they are", unadapted.max(axis=0), before, before)
    row("the order whose answers are most certain", _by_certainty(learner, test, unadapted), before, before)
    after = np.mean([table[LAST, task] for task in range(LAST)], axis=0)
    row("re-ordered without labels (compose)", table[LAST, LAST], before, after)
    for name in ("order", "finetune"):
        strategy, options = ("compose", {}) if name == "order" else ("finetune", {"stream.setting": "domain"})
        _, _, table = walked(strategy, **{"stream.unlabelled": [], **options})
        before, after = (np.mean([table[step, task] for task in range(LAST)], axis=0) for step in (LAST - 1, LAST))
        title = "order learned with labels (compose)" if name == "order" else "one net fine-tuned with labels"
        row(title, table[LAST, LAST], before, after)


def _by_certainty(learner: Compose, test: object, unadapted: np.ndarray) -> np.ndarray:
    scores = torch.stack([certainty(learner.predict(test.x, task)) for task in range(LAST)])  # type: ignore[attr-defined]
    return unadapted[scores.argmax(dim=0).numpy(), np.arange(len(SEEDS))]


if __name__ == "__main__":
    main()
