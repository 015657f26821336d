"""Avalanche's introduction ("all in one page", getting-started), with one of our strategies in the place of Naive.

PYTHONPATH=. python docs/examples/avalanche_getting_started.py --data-root DIR [--samples-per-class N]

Two lines differ from the original: the import of `as_avalanche`, and the one that makes the strategy.
"""

import argparse
from pathlib import Path

from avalanche.benchmarks.classic import SplitMNIST
from avalanche.evaluation.metrics import (
    accuracy_metrics,
    confusion_matrix_metrics,
    forgetting_metrics,
    loss_metrics,
    timing_metrics,
)
from avalanche.logging import InteractiveLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin

from cl_engine.interop.avalanche import as_avalanche


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--samples-per-class", type=int)
    parser.add_argument("--log", type=Path, default=Path("log.txt"))
    arguments = parser.parse_args()

    scenario = SplitMNIST(n_experiences=5, seed=1, dataset_root=arguments.data_root)

    with arguments.log.open("w") as file:
        eval_plugin = EvaluationPlugin(
            accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
            timing_metrics(epoch=True),
            loss_metrics(minibatch=True, epoch=True, experience=True, stream=True),
            forgetting_metrics(experience=True, stream=True),
            confusion_matrix_metrics(num_classes=scenario.n_classes, save_image=False, stream=True),
            loggers=[InteractiveLogger(), TextLogger(file)],
        )

        # was: Naive(model=SimpleMLP(num_classes=scenario.n_classes), optimizer=…, train_mb_size=100, train_epochs=1, …)
        cl_strategy = as_avalanche(
            "replay",
            benchmark=scenario,
            net={"name": "mlp", "hidden": [512]},
            train={"batch": 100, "epochs": 1, "lr": 0.05},
            evaluator=eval_plugin,
            stream={"samples_per_class": arguments.samples_per_class},
        )

        print("Starting experiment...")
        results = []
        for experience in scenario.train_stream:
            print("Start of experience: ", experience.current_experience)
            print("Current Classes: ", experience.classes_in_this_experience)
            cl_strategy.train(experience)
            print("Training completed")
            print("Computing accuracy on the whole test set")
            results.append(cl_strategy.eval(scenario.test_stream))
    print("final accuracy: {:.3f}".format(results[-1]["Top1_Acc_Stream/eval_phase/test_stream/Task000"]))


if __name__ == "__main__":
    main()
