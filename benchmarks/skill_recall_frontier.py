"""Compression against accuracy, and time per task, of every codec over nets learned once.

    PYTHONPATH=. python benchmarks/skill_recall_frontier.py split_mnist_10x nets.safetensors | tee …     (a row a codec)
    PYTHONPATH=. python benchmarks/skill_recall_frontier.py permuted_mnist_200 nets.safetensors | tee …
    PYTHONPATH=. python benchmarks/skill_recall_frontier.py permuted_mnist_200 nets.safetensors 40 rehearsal | tee …

The nets are learned if the file is not there, and kept in it whole, as float32. Counted is all that decoding needs: the mean net
that `split_mnist_10x` starts from too; `permuted_mnist_200` starts from the seed's own net, which is not counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from cl_engine.core.state import bytes_by_part
from cl_engine.engine.agenda import Learn
from cl_engine.engine.loop import simulate
from cl_engine.events import TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.recall.choice import CodecOptions, codec_of
from cl_engine.recall.codec import Batch
from cl_engine.recall.manifest import Manifest
from cl_engine.strategies.skill_recall import SkillRecall

ONE: dict[str, Any] = {"block": 0, "max_passes": 1}
ROWS: dict[str, dict[str, Any]] = {
    "default: blocks of 20, 8 bits": {},
    "blocks of 20, 6 bits": {"decoder_bits": 6},
    "blocks of 20, 5 bits": {"decoder_bits": 5},
    "blocks of 20, 4 bits": {"decoder_bits": 4},
    "one autoencoder 5, 32 bits": ONE | {"latent": 5, "decoder_bits": 32},
    "one autoencoder 10, 8 bits": ONE | {"latent": 10},
    "one autoencoder 20, 8 bits": ONE | {"latent": 20},
    "one autoencoder 20, 6 bits": ONE | {"latent": 20, "decoder_bits": 6, "latent_bits": 16},
    "one autoencoder 20, 5 bits": ONE | {"latent": 20, "decoder_bits": 5, "latent_bits": 16},
    "one autoencoder 40, 8 bits": ONE | {"latent": 40},
    "one autoencoder 40, 5 bits": ONE | {"latent": 40, "decoder_bits": 5, "latent_bits": 16},
    "one 20, 6 bits, residual 3 bits": ONE | {"latent": 20, "decoder_bits": 6, "residual_bits": 3},
    "basis, first 20 nets, 8 bits": {"codec": "basis", "rank": 20},
    "basis, residual .9, 5 bits": {"codec": "basis", "threshold": 0.9, "decoder_bits": 5},
    "basis, residual .999, 5 bits": {"codec": "basis", "decoder_bits": 5},
    "quantised, 5 bits": {"codec": "quantised"},
    "quantised, 4 bits": {"codec": "quantised", "bits": 4},
    "quantised, 3 bits": {"codec": "quantised", "bits": 3},
    "quantised, 2 bits": {"codec": "quantised", "bits": 2},
    "mean": {"codec": "mean"},
}

# what bounds the cost of rehearsal, autoencoders trained step by step as published but with centred weights
STEPS: dict[str, Any] = {
    "closed_form": False,
    "hidden": [64],
    "latent": 64,
    "decoder_bits": 32,
    "block": 0,
    "max_passes": 300,
}
REHEARSAL: dict[str, dict[str, Any]] = {
    "steps: all recollections": STEPS,
    "steps: all, threshold .99": STEPS | {"threshold": 0.99},
    "steps: 8 recollections rehearsed": STEPS | {"rehearse": 8},
    "steps: none rehearsed": STEPS | {"rehearse": 0},
    "steps: quantised references": STEPS | {"references": "quantised"},
    "steps: chunks of 1,024": STEPS | {"chunk": 1024, "hidden": [256], "latent": 256, "max_passes": 60},
    "steps: blocks of 20": STEPS | {"block": 20},
    "closed form: one of 64": {"block": 0, "latent": 64},
    "closed form: blocks of 20": {},
}


NETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "permuted_mnist_200": ("permuted_mnist_200", "independent", {}),
    # every net starts from the mean of the first five, with a pull to it; the codec keeps up with them and is not measured
    "split_mnist_10x": (
        "selfnet_split_mnist_10x",
        "skill_recall",
        {"stream.n": 220, "codec": "quantised", "centred": True},
    ),
}


class Nets:
    """The nets of a stream, as vectors ``[1, n, P]``, the net they start from, and what tests them."""

    def __init__(self, name: str, file: Path, limit: int) -> None:
        scenario, strategy, options = NETS[name]
        experiment = Experiment.of(scenario, strategy, (0,), **options)
        self.stream = experiment.stream()
        self.net = experiment.build_strategy(self.stream).net
        self.initial = self.net.init([0])
        self.manifest = Manifest.of(self.net, self.initial)
        if not file.exists():
            save_file(self._learned(experiment), file)
        found = load_file(file)
        self.vectors, self.centre = found["nets"][:, :limit], found["start"]
        drawn = torch.equal(self.centre, self.manifest.vector(self.initial))
        self.start_bytes = 0 if drawn else self.centre.numel() * 4
        self.tests = [self.stream.test(task) for task in range(self.vectors.shape[1])]

    def _learned(self, experiment: Experiment) -> dict[str, torch.Tensor]:
        """Learn all tasks and return their nets and the net they start from."""
        learner = experiment.build_strategy(self.stream)
        learned: list[torch.Tensor] = []
        if isinstance(learner, SkillRecall):
            wait = learner._wait
            learner._wait = lambda task, vector: (learned.append(vector.clone()), wait(task, vector))[1]  # type: ignore[method-assign]
        for event in simulate(self.stream, learner, map(Learn, range(int(self.stream.n_steps or 0)))):
            if isinstance(event, TaskLearned) and event.step % 20 == 0:
                print(f"{event.step + 1} nets learned", file=sys.stderr, flush=True)
        if isinstance(learner, SkillRecall):
            return {"nets": torch.stack(learned, dim=1), "start": learner.state["mean"]["start"]}
        rows = {name: bank.rows for name, bank in learner.state["nets"].items()}
        count = range(next(iter(rows.values())).shape[1])
        nets = [self.manifest.vector({name: each[:, k] for name, each in rows.items()}) for k in count]
        return {"nets": torch.stack(nets, dim=1), "start": self.manifest.vector(self.initial)}

    def accuracy(self, task: int, vector: torch.Tensor) -> float:
        params = self.manifest.params(vector, self.manifest.rest(self.initial))
        test = self.tests[task]
        return float((self.net.all(params, test.x).argmax(-1) == test.y).float().mean())


class Kept(Protocol):
    """What codecs are tried on: vectors ``[1, n, P]``, what is taken away from them, and what tests a task's."""

    manifest: Manifest
    vectors: torch.Tensor
    centre: torch.Tensor
    start_bytes: int

    def accuracy(self, task: int, vector: torch.Tensor) -> float: ...


def measure(nets: Kept, options: dict[str, Any]) -> dict[str, Any]:
    tensors = [entry.size for entry in nets.manifest.inside]
    kept = codec_of(CodecOptions.of(options), [0], tensors, torch.device("cpu"))
    state, count = kept.start(), nets.vectors.shape[1]
    residuals = nets.vectors - nets.centre.unsqueeze(1)
    seconds, sizes = [], []
    for begin in range(0, count - count % 5, 5):
        rows = list(range(begin, begin + 5))
        new = residuals[:, rows]
        batch = Batch(new, rows, 4, nets.centre, begin, lambda m, v: torch.zeros(1), torch.zeros(1))
        began = time.perf_counter()
        for _ in kept.keep(state, batch):
            pass
        seconds.append(time.perf_counter() - began)
        sizes.append(nets.start_bytes + sum(bytes_by_part(state).values()))
    held = kept.held(state)
    accuracy = [nets.accuracy(task, kept.recall(state, task) + nets.centre) for task in range(held)]
    centred = torch.stack([torch.cosine_similarity(kept.recall(state, t), residuals[:, t]) for t in range(held)])
    parts = bytes_by_part(state)
    recall = nets.start_bytes + sum(parts[part] for part in kept.recall_parts if part in parts)
    return {
        "accuracy": accuracy,
        "cosine": float(centred.mean()),
        "seconds": seconds,
        "sizes": sizes,
        "curve": [5 * k * nets.manifest.size * 4 / size for k, size in enumerate(sizes, start=1)],
        "in_all": nets.start_bytes + sum(parts.values()),
        "recall": recall,
        "whole": held * nets.manifest.size * 4,
    }


def main() -> None:
    torch.set_num_threads(1)
    stream, file, *asked = sys.argv[1:]
    limit = int(asked.pop(0)) if asked and asked[0].isdecimal() else 10_000
    rows = REHEARSAL if "rehearsal" in asked else ROWS
    only = [name for name in asked if name != "rehearsal"]
    nets = Nets(stream, Path(file), limit)
    count = nets.vectors.shape[1] // 5 * 5
    original = [nets.accuracy(task, nets.vectors[:, task]) for task in range(count)]
    print(f"{count} nets of {nets.manifest.size:,} weights of {stream}; one seed, buffer 5, one thread")
    start = f"a mean, {nets.start_bytes:,} bytes, counted" if nets.start_bytes else "the seed's own, not counted"
    print(f"the net they start from: {start}")
    print(f"originals: mean {np.mean(original):.4f}, worst {min(original):.3f}")
    print(f"{'':<34} mean   loss   worst  cosine  bytes/skill  nets÷recall  nets÷all  s a task at 20   at the end")
    found = {}
    for name, options in rows.items():
        if only and name not in only:
            continue
        got = found[name] = measure(nets, options)
        at_20, at_end = (np.mean(got["seconds"][k - 4 : k]) / 5 for k in (4, count // 5))
        print(
            f"{name:<34} {np.mean(got['accuracy']):.4f} {np.mean(original) - np.mean(got['accuracy']):+.4f} "
            f"{min(got['accuracy']):.3f}  {got['cosine']:.4f} {got['in_all'] / count:>11,.0f} "
            f"{got['whole'] / got['recall']:>11.1f} {got['whole'] / got['in_all']:>10.1f} {at_20:>12.3f} {at_end:>12.3f}",
            flush=True,
        )
    if rows is REHEARSAL or only:
        return
    out = Path(__file__).parent / "output" / f"skill_recall_frontier_{stream}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"original": original, "rows": found}))


if __name__ == "__main__":
    main()
