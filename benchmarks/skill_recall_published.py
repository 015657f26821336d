"""Self-Net's permuted MNIST as published, its stop rule tightened step by step: nets learned once, then encoded.

    PYTHONPATH=. python run.py run selfnet_permuted_mnist -s skill_recall --set buffer=11 --seeds 3 --out DIR
    PYTHONPATH=. python benchmarks/skill_recall_published.py DIR [seeds] [name …] | tee …   (a row a configuration)

The first command learns the nets and keeps them whole (a buffer that never fills); the second reads them from its
checkpoint. The autoencoder is the published one (21840-2000-20-2000-21840, tanh, Adam at 1e-4); all samples make one
step instead of one each, which takes fewer steps to the same cosine and a tenth of the time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from cl_engine.analysis.scores.statistics import mean_and_deviation
from cl_engine.checkpoints import file as checkpoint
from cl_engine.core.state import bytes_by_part
from cl_engine.experiment import Experiment
from cl_engine.recall.choice import CodecOptions, codec_of
from cl_engine.recall.codec import Batch, recalled
from cl_engine.strategies.skill_recall import SkillRecall

COMMON = Experiment.of("selfnet_permuted_mnist", "skill_recall").resolved["strategy"]
PUBLISHED: dict[str, Any] = {**COMMON, "code_batch": 0, "resend": "none", "contractive": 0.0, "max_passes": 600}
DEFAULT = SkillRecall.Options(begin="scratch").model_dump()
ROWS: dict[str, dict[str, Any]] = {
    "default (closed form, blocks of 20)": DEFAULT,
    "quantised, 5 bits": {**DEFAULT, "codec": "quantised"},
    "mean of all nets": {**DEFAULT, "codec": "mean"},
    "published net, cosine .97": {**PUBLISHED, "threshold": 0.97},
    "published net, cosine .99 (as released)": {**PUBLISHED, "threshold": 0.99},
    "published net, cosine .995": {**PUBLISHED, "threshold": 0.995},
    "published net, cosine .999": {**PUBLISHED, "threshold": 0.999},
    "published net, cosine .999, buffer 5": {**PUBLISHED, "threshold": 0.999, "buffer": 5},
    "published net, .999, no rehearsal": {**PUBLISHED, "threshold": 0.999, "rehearse": 0},
}


class Nets:
    """The nets of a run that kept them whole, ``[S, n, P]``, and what tests them."""

    def __init__(self, folder: Path, seeds: int) -> None:
        with h5py.File(folder / "log.h5") as log:
            self.seeds = json.loads(log["environment/experiment"][()])["seeds"]
        experiment = Experiment.of("selfnet_permuted_mnist", "skill_recall", self.seeds, buffer=11)
        self.stream = experiment.stream()
        learner = experiment.build_strategy(self.stream)
        assert isinstance(learner, SkillRecall)
        learner.state = checkpoint.load(folder / "checkpoint.safetensors")["strategy"]
        self.manifest, self.net = learner.manifest, learner.net
        order = learner.state["places"].rows[0, :, 1].tolist()
        self.vectors: Tensor = learner.state["waiting"].rows[:seeds, order]
        self.seeds = self.seeds[:seeds]
        self.tests = [self.stream.test(task) for task in range(len(order))]

    def accuracy(self, task: int, vectors: Tensor) -> Tensor:
        """Return the accuracy of nets ``[S, P]`` on a task, ``[S]``."""
        test = self.tests[task]
        return (self.net.all(self.manifest.params(vectors, {}), test.x).argmax(-1) == test.y).double().mean(dim=-1)


def measure(nets: Nets, options: dict[str, Any]) -> str:
    """Encode all nets as a stream would, and return a row: accuracy over seeds and tasks, cosine, passes, seconds."""
    sizes = [entry.size for entry in nets.manifest.inside]
    codec = codec_of(CodecOptions.of(options), nets.seeds, sizes, torch.device("cpu"))
    state, (seeds, count, size), buffer = codec.start(), nets.vectors.shape, options["buffer"]
    began, passes, zero = time.process_time(), 0.0, torch.zeros(seeds, size)
    for begin in range(0, count, buffer):
        rows = list(range(begin, min(begin + buffer, count)))
        batch = Batch(nets.vectors[:, rows], rows, len(rows) - 1, zero, begin, lambda m, v: zero[:, 0], zero[:, 0])
        keeping = codec.keep(state, batch)
        while True:
            try:
                next(keeping)
            except StopIteration as end:
                passes += sum(end.value.epochs) / seeds
                break
    seconds = time.process_time() - began
    given = recalled(codec, state, list(range(count)))
    cosine = torch.cosine_similarity(given, nets.vectors, dim=-1).mean()
    found = torch.stack([nets.accuracy(task, given[:, task]) for task in range(count)])
    parts = bytes_by_part(state)
    recall = sum(parts[part] for part in codec.recall_parts if part in parts)
    return row_of(found) + f" {cosine:.4f} {passes:7.0f} {seconds:6.0f} {recall:>12,} {sum(parts.values()):>12,}"


def row_of(found: Tensor) -> str:
    """Return mean ± sample deviation over seeds, worst and first task of accuracies ``[n, S]``."""
    return f"{mean_and_deviation(found.mean(dim=0).numpy(), 4)}  {found.min(dim=0).values.mean():.4f}  {found[0].mean():.4f} "


def main() -> None:
    torch.set_num_threads(1)
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    nets = Nets(Path(sys.argv[1]), seeds)
    whole = nets.vectors.shape[1] * nets.manifest.bytes
    print(f"torch {torch.__version__}, {seeds} seeds, {nets.vectors.shape[1]} nets of {nets.manifest.size:,} weights")
    print(f"{'':<40}{'mean ± sd':>15}  worst   first   cosine  passes  CPU s     recall B        all B")
    found = torch.stack([nets.accuracy(task, nets.vectors[:, task]) for task in range(nets.vectors.shape[1])])
    print(f"{'originals':<40}{row_of(found)} 1.0000       0      0 {whole:>12,} {whole:>12,}", flush=True)
    for name, options in ROWS.items():
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        print(f"{name:<40}{measure(nets, options)}", flush=True)


if __name__ == "__main__":
    main()
