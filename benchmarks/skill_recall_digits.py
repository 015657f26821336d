"""Recall against originals, controls and rivals on ten permutations of digits: the table of docs/skill_recall.md.

    PYTHONPATH=. python benchmarks/skill_recall_digits.py [name …] | tee benchmarks/output/skill_recall_digits.txt

Three seeds, nets of 2,410 weights; the autoencoders "as published" are 2410-100-20-100-2410, trained by full-batch Adam.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch

from cl_engine.analysis.scores.statistics import mean_and_deviation
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import cells
from cl_engine.experiment import Experiment
from cl_engine.recall.events import Consolidated, SkillBytes

PUBLISHED: dict[str, Any] = {
    "closed_form": False,
    "hidden": [100],
    "latent": 20,
    "block": 0,
    "decoder_bits": 32,
    "buffer": 1,
    "stop": "cosine",
    "centred": False,
    "max_passes": 1500,
}
CENTRED = PUBLISHED | {"stop": "residual", "centred": True}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "originals": ("independent", {}),
    "fine-tuning, one net": ("finetune", {"stream.setting": "domain"}),
    "published, cosine .97": ("skill_recall", PUBLISHED | {"threshold": 0.97}),
    "published, cosine .995": ("skill_recall", PUBLISHED | {"threshold": 0.995}),
    "published, cosine .999": ("skill_recall", PUBLISHED | {"threshold": 0.999}),
    "published, cosine .9998": ("skill_recall", PUBLISHED | {"threshold": 0.9998}),
    "centred, residual .999, buffer 1": ("skill_recall", CENTRED | {"threshold": 0.999}),
    "centred, residual .999, buffer 5": ("skill_recall", CENTRED | {"threshold": 0.999, "buffer": 5}),
    "centred, accuracy of the newest −.005": ("skill_recall", CENTRED | {"stop": "accuracy", "threshold": 0.005}),
    "small 16-8, residual .999": ("skill_recall", CENTRED | {"hidden": [16], "latent": 8}),
    "small 8-5, residual .999": ("skill_recall", CENTRED | {"hidden": [8], "latent": 5}),
    "no rehearsal": ("skill_recall", CENTRED | {"rehearse": 0}),
    "quantised references, cosine .995": (
        "skill_recall",
        PUBLISHED | {"threshold": 0.995, "references": "quantised"},
    ),
    "mean of all nets": ("skill_recall", {"codec": "mean", "buffer": 1}),
    "default (closed form, blocks of 20)": ("skill_recall", {}),
    "default, buffer 1": ("skill_recall", {"buffer": 1}),
    "default, decoder in 5 bits": ("skill_recall", {"decoder_bits": 5}),
    "autoencoder 4 + residual in 5 bits": ("skill_recall", {"latent": 4, "residual_bits": 5, "max_passes": 20}),
    "basis in 5 bits": ("skill_recall", {"codec": "basis", "decoder_bits": 5}),
    "quantised, 5 bits": ("skill_recall", {"codec": "quantised"}),
    "quantised, 4 bits": ("skill_recall", {"codec": "quantised", "bits": 4}),
    "quantised, 3 bits": ("skill_recall", {"codec": "quantised", "bits": 3}),
}


def measure(strategy: str, options: dict[str, Any]) -> str:
    experiment = Experiment.of("skill_recall_digits", strategy, (0, 1, 2), **{"agenda.evaluate_every": 0, **options})
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    accuracy = np.full((10, 3), np.nan)
    seconds, passes, original, kept = time.process_time(), 0.0, float("nan"), ""
    for event in simulate(stream, learner, plan(stream, experiment.agenda)):
        for cell in cells(event):
            if cell.step == 9:
                accuracy[cell.task_id] = np.array(cell.n_correct) / cell.n_total
        match event:
            case Consolidated():
                passes += float(np.mean(event.passes))
                original = float(np.mean(event.original))
            case SkillBytes():
                kept = f"{event.recall_only:>9,} {event.in_all:>9,} {event.kept_whole:>7,}"
    seconds = time.process_time() - seconds
    return (
        f"{mean_and_deviation(accuracy.mean(axis=0))}  "
        f"{accuracy.min(axis=0).mean():.3f}  {accuracy[0].mean():.3f}  {original:.4f} "
        f"{passes:7.0f} {seconds:6.0f}  {kept}"
    )


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, seeds 0 to 2; accuracy after the last of ten tasks")
    print(
        f"{'':<38}{'mean ± sd':>13}  worst  first  cos/original passes  CPU s  {'recall B':>8} {'all B':>9} {'nets B':>7}"
    )
    for name, (strategy, options) in ROWS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        print(f"{name:<38}{measure(strategy, options)}", flush=True)


if __name__ == "__main__":
    main()
