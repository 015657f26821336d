"""Options of training that do not fit each other, the stream or the strategy: refused before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Strategy
from cl_engine.training.optimizer_steps import check_training
from cl_engine.training.optimizers import Train


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "one_circle"}, "no schedule named 'one_circle' .*did you mean 'one_cycle'"),
        ({"schedule": "lambda"}, "train.schedule: 'lambda' takes a function; there are: "),
        ({"schedule": "step?step=3"}, "'step' has no option 'step'; there are: step_size, gamma"),
        ({"schedule": "step"}, "train.schedule: 'step' does not take its options: .*step_size"),
        ({"schedule": "one_cycle?total_steps=3", "schedule_by": "epoch", "epochs": 9}, "ends after 3 of the 9 times"),
        ({"schedule": "cyclic?base_lr=0.1", "optimizer": "adagrad"}, "'cyclic' does not take its options: .*momentum"),
        (
            {"schedule": "exponential?gamma=0.9", "milestones": [1]},
            "train.milestones: they are set beside the schedules",
        ),
        (
            {"schedule": "plateau", "schedule_by": "step"},
            "train.schedule_by: 'plateau' looks at the validation rows once",
        ),
        ({"schedule_by": "step"}, "train.schedule_by: the learning rate is constant"),
        ({"schedule": "plateau?mode=min"}, "'plateau' has no option 'mode'"),
        ({"nesterov": True}, "train: the optimiser 'sgd' does not take its options: Nesterov"),
        ({"optimizer": "adam", "nesterov": True}, "train.nesterov: the optimiser 'adam' has none"),
        ({"betas": [0.9, 0.99]}, "train.betas: the optimiser 'sgd' has none"),
        ({"optimizer": "adam", "betas": [2.0, 0.9]}, "'adam' does not take its options: Invalid beta"),
        ({"transforms": ["random_flip"]}, "no transform of torchvision.transforms.v2 named 'random_flip'"),
        ({"transforms": ["mix_up"]}, "train.transforms: 'mix_up' mixes labels"),
        ({"transforms": ["random_erasing?q=1"]}, "'random_erasing' has no option 'q'; there are: p, scale"),
        ({"transforms": ["random_erasing?p=7"]}, "'random_erasing' does not take its options: "),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_sentence(options: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        check_training(Train(**options))


@pytest.mark.parametrize(
    ("strategy", "options", "said"),
    [
        (
            "finetune",
            {"train.patience": 1},
            "train.patience: it follows validation rows, and the stream sets none aside",
        ),
        ("finetune", {"train.schedule": "plateau"}, "train.schedule = 'plateau': it follows validation rows"),
        (
            "joint",
            {"train.patience": 1, "stream.validation": 0.2},
            "no fit of the strategy 'joint' is of that task's rows",
        ),
        ("finetune", {"train.warmup": 1.0, "stream.pieces": 5}, "train.warmup changes the learning rate .*in pieces"),
        (
            "finetune",
            {"train.patience": 1, "stream.pieces": 5},
            "train.patience looks at the validation rows .*in pieces",
        ),
        (
            "finetune",
            {"train.patience": 1, "stream.validation": 0.2, "stream.per_seed": True},
            "with stream.per_seed each seed has rows of its own",
        ),
        (
            "independent",
            {"lrs": [0.1, 0.01], "stream.per_seed": True},
            "strategy.lrs and strategy.weight_decays are chosen on the same validation rows for all seeds",
        ),
        (
            "replay",
            {"sampling": "error", "stream.validation": 0.2, "stream.per_seed": True},
            "strategy.sampling: 'error' looks at the same validation rows for all seeds",
        ),
        ("si", {"train.clip_norm": 1.0}, "train.clip_norm: si adds up what the gradients of a task's own loss did"),
        ("er_ace", {"train.label_smoothing": 0.1}, "train.label_smoothing: er_ace tells new rows apart"),
        (
            "finetune",
            {"train.transforms": ["resize?size=[3, 3]"]},
            "makes torch.uint8 of shape .* of torch.uint8 of shape",
        ),
    ],
)
def test_options_that_mean_nothing_to_a_stream_or_strategy_are_refused_before_the_first_step(
    strategy: str, options: dict[str, Any], said: str, tiny: Callable[..., Experiment]
):
    experiment = tiny(strategy, **options)
    with pytest.raises(UsageError, match=said):
        experiment.build_strategy(experiment.stream())


class Elsewhere(Strategy):
    """Fits other rows than those of the experience."""

    shared = SharedNet()

    def start(self) -> Any:
        return self.shared.start()

    def learn(self, experience: Experience) -> Any:
        rows = experience.train.x.clone(), experience.train.y
        params = yield from self.fit(self.shared.params(experience.task_id), self.loss, experience, rows=rows)
        self.shared.keep(experience.task_id, params)

    def predict(self, x: torch.Tensor, task_id: int | None) -> torch.Tensor:
        return self.net.all(self.shared.params(task_id), x)


def test_a_strategy_of_ones_own_whose_fits_cannot_be_judged_is_refused_after_the_first(tiny: Callable[..., Experiment]):
    experiment = tiny(f"{__name__}:Elsewhere", **{"train.patience": 1, "stream.validation": 0.2})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    with pytest.raises(
        UsageError, match="no fit of the strategy 'test_training_refusals' is of that task's rows alone"
    ):
        list(strategy.learning(stream[0]))
