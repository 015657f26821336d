"""Small things to test plug-ins with: a scenario of three tasks, nets, images."""

from __future__ import annotations

import numpy as np
from torch import nn

from cl_engine.data.source import Arrays
from cl_engine.runs.scenario import Scenario

# three small tasks of scikit-learn's digits, which need no files; a run takes a tenth of a second
TABLES = {
    "stream": {
        "name": "permuted",
        "source": "digits",
        "setting": "task",
        "n": 3,
        "samples_per_class": 6,
        "test_samples_per_class": 5,
    },
    "net": {"name": "mlp", "hidden": [12, 12, 12]},
    "train": {"epochs": 2, "batch": 20, "optimizer": "adam", "lr": 0.01},
    "agenda": {"evaluate_ahead": 1, "curve_batches": 1, "save_share": 1.0},
}


def scenario() -> Scenario:
    """Return the scenario that strategies are tested on unless another is given."""
    return Scenario.of("small", TABLES)


def with_batchnorm(num_classes: int, hidden: int) -> nn.Module:
    """Return a convolutional net for 8 × 8 images whose layers are normalised over the batch."""
    return nn.Sequential(
        nn.Conv2d(1, hidden, 3, stride=2),
        *(nn.BatchNorm2d(hidden), nn.ReLU()),
        *(nn.Conv2d(hidden, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU()),
        *(nn.Conv2d(hidden, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(hidden * 9, num_classes),
    )


def with_dropout(num_classes: int, hidden: int) -> nn.Module:
    """Return a fully connected net for 64 inputs whose training draws random numbers."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, num_classes),
    )


def images(classes: int = 6, train: int = 8, test: int = 4) -> Arrays:
    """Return random images of 5 × 5 pixels, ``train`` and ``test`` of each class."""
    draw = np.random.default_rng(0)
    train_y, test_y = (np.tile(np.arange(classes), count) for count in (train, test))
    train_x, test_x = (draw.integers(0, 256, (len(y), 1, 5, 5), dtype=np.uint8) for y in (train_y, test_y))
    return Arrays(train_x, train_y, test_x, test_y, classes)


def views() -> Scenario:
    """Return a scenario of five questions about the same pictures, one of each kind of target."""
    return Scenario.of(
        "views",
        {
            "stream": {
                "name": "views",
                "source": "scenes?size=32&rows=40&test_rows=20",
                "labelled": 12,
                "test_rows": 6,
                "views": ["shape", "segmentation", "depth", "vanishing", "boxes"],
            },
            "net": {"name": "unet", "width": 4, "stages": 3},
            "train": {"epochs": 1, "batch": 6, "optimizer": "adam", "lr": 0.01},
            "agenda": {"evaluate_ahead": 0},
        },
    )
