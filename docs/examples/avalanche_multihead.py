"""Avalanche's example of multi-head models (examples/multihead.py), with masks on one net instead of EWC on several heads.

PYTHONPATH=. python docs/examples/avalanche_multihead.py --data-root DIR [--samples-per-class N]

Task labels tell the task at test time. The run is also logged in this engine's format, for `run.py report`.
"""

import argparse
from pathlib import Path

from avalanche.benchmarks.classic import SplitMNIST
from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics, forgetting_metrics
from avalanche.logging import InteractiveLogger
from avalanche.training.plugins import EvaluationPlugin

from cl_engine.interop.avalanche import Hdf5Logger, as_avalanche


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--samples-per-class", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/avalanche_multihead"))
    arguments = parser.parse_args()

    benchmark = SplitMNIST(n_experiences=5, return_task_id=True, seed=1, dataset_root=arguments.data_root)

    with Hdf5Logger(arguments.out, strategy="piggyback", scenario="SplitMNIST, task", fresh=True) as log:
        evaluator = EvaluationPlugin(
            accuracy_metrics(epoch=True, experience=True, stream=True),
            forgetting_metrics(experience=True, stream=True),
            bwt_metrics(stream=True),
            loggers=[InteractiveLogger(), log],
        )

        # was: EWC(as_multitask(SimpleMLP(…), "classifier"), optimizer, CrossEntropyLoss(), ewc_lambda=0.4, …)
        strategy = as_avalanche(
            "piggyback",
            benchmark=benchmark,
            net={"name": "mlp", "hidden": [100]},
            train={"batch": 32, "epochs": 3, "optimizer": "adam", "lr": 0.001},
            evaluator=evaluator,
            stream={"samples_per_class": arguments.samples_per_class},
            mask_lr=0.003,
        )
        for train_task in benchmark.train_stream:
            strategy.train(train_task)
            strategy.eval(benchmark.test_stream)


if __name__ == "__main__":
    main()
