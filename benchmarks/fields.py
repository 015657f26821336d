"""Neural fields: nets of pictures in one forward pass, at any step of SGD, and what keeping a picture as a net takes.

    PYTHONPATH=. python benchmarks/fields.py [PART …] | tee benchmarks/output/fields.txt

Parts: steps, bytes (MNIST at 14 × 14, by CL_DATA_ROOT) and picture (docs/fields.png, of what `steps` prints, in
benchmarks/output/fields.txt). In `steps` a field is given pictures in place of codes, by an encoder, and trained on
SEEN of them together; UNSEEN others are never trained on. "direct" is the same generator and encoder, trained by the loss of
its nets at the last step alone. Numbers are means over pictures, ± the deviation of a sample over seeds.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.experiment import Experiment
from cl_engine.recall.encoder import encoder_of
from cl_engine.recall.events import SkillBytes
from cl_engine.recall.field import Field
from cl_engine.recall.hypernetwork import Generator, GeneratorOptions
from cl_engine.recall.manifest import Manifest
from cl_engine.results import open_run

SEEDS, TIMES = (0, 1, 2), (5, 15, 40, 80, 150)
SEEN, UNSEEN = 2_000, 200
STEPS, CONDITIONS, CODE, HIDDEN = 2_500, 16, 32, [128]
FORMS = ("field", "direct")
OUTPUT, DRAWN = Path("benchmarks/output/fields.txt"), Path("docs/fields.png")


class Pictures:
    """The pictures of the stream, the net they are fitted by from one start, and the gradient of its loss."""

    def __init__(self, seed: int) -> None:
        experiment = Experiment.of("fields_mnist", "hypernet_field", (seed,))
        stream = experiment.stream()
        learner = experiment.build_strategy(stream)
        self.net, self.target = learner.net, stream.target(0)
        self.field_of: Field = learner.field  # type: ignore[attr-defined]
        initial = self.net.init([seed])
        self.manifest = Manifest.of(self.net, initial)
        self.start = self.manifest.vector(initial)[0]
        self.x = stream[0].train.x
        self.y = torch.stack([stream[task].train.y for task in range(SEEN + UNSEEN)])
        self.labels = torch.stack([self.target.vectors(y).flatten() for y in self.y])
        self.gradient = torch.vmap(torch.func.grad(self.loss))

    def loss(self, weights: Tensor, y: Tensor) -> Tensor:
        made = {name: tensor[0] for name, tensor in self.manifest.params(weights.unsqueeze(0), {}).items()}
        return self.target.loss(self.net.one(made, self.x), y)

    def psnr(self, weights: Tensor, pictures: Tensor) -> float:
        """Return the mean over pictures of the score of weights ``[n, P]``."""
        outputs = self.net.all(self.manifest.params(weights, {}), self.x)
        sums = np.stack([self.target.sums(own, y).numpy() for own, y in zip(outputs, self.y[pictures], strict=True)])
        return float(self.target.score(sums).mean())

    def sgd(self, pictures: Tensor) -> dict[int, Tensor]:
        """Return the weights ``[n, P]`` that SGD comes to; a batch is the whole picture."""
        weights, found = self.start.expand(len(pictures), -1), {}
        for step in range(max(TIMES) + 1):
            if step in TIMES:
                found[step] = weights
            weights = weights - self.field_of.eta * self.gradient(weights, self.y[pictures])
        return found


def steps() -> None:
    print(
        f"\nfields_mnist, {SEEN:,} pictures seen, {UNSEEN} unseen, {STEPS:,} steps of {CONDITIONS} pictures; PSNR in dB"
    )
    print(f"{'':<28}" + "".join(f"t = {at:<12}" for at in TIMES) + "CPU ms a picture")
    with ProcessPoolExecutor(len(SEEDS)) as side_by_side:
        tables, costs, seconds = zip(*side_by_side.map(of_seed, SEEDS), strict=True)
    for name in tables[0]:
        places = range(len(TIMES))
        cells = [shown([own[name][k] for own in tables], 3 if name.startswith("distance") else 2) for k in places]
        cost = f"{1e3 * float(np.mean([own[name] for own in costs])):.3f}" if name in costs[0] else ""
        print(f"{name:<28}" + "".join(f"{cell:<16}" for cell in cells) + cost, flush=True)
    held = Pictures(0)
    phi = sum(tensor[0].numel() for tensor in generator(held).init([0]).values()) * 4
    print(
        f"training took {np.mean(seconds):.0f} CPU s; generator {phi:,} bytes, code {CODE * 4}, net {held.manifest.bytes:,}, "
        f"pixels {held.y[0].numel()}",
        flush=True,
    )


def generator(held: Pictures) -> Generator:
    return Generator(held.manifest, GeneratorOptions.of({"code": CODE, "hidden": HIDDEN}), held.net.device, timed=True)


def of_seed(seed: int) -> tuple[dict[str, list[float]], dict[str, float], float]:
    """Return PSNR and distances at the steps, CPU seconds a picture, and those that training a generator took."""
    torch.set_num_threads(1)
    held = Pictures(seed)
    field = Field(generator(held), held.field_of.horizon, held.field_of.eta)
    began = time.process_time()
    made = {form: trained(form, held, field, seed) for form in FORMS}
    seconds = (time.process_time() - began) / len(FORMS)
    table: dict[str, list[float]] = {}
    costs: dict[str, float] = {}
    mean = held.y[:SEEN].mean(dim=0)
    for which, pictures in {"seen": torch.arange(UNSEEN), "unseen": torch.arange(SEEN, SEEN + UNSEEN)}.items():
        began = time.process_time()
        paths = held.sgd(pictures)
        costs[f"SGD, {which}"] = (time.process_time() - began) / UNSEEN
        table[f"SGD, {which}"] = [held.psnr(paths[at], pictures) for at in TIMES]
        for form in FORMS:
            began = time.process_time()
            nets = {at: made[form](held.labels[pictures], at) for at in TIMES}
            costs[f"{form}, {which}"] = (time.process_time() - began) / len(TIMES) / UNSEEN
            table[f"{form}, {which}"] = [held.psnr(nets[at], pictures) for at in TIMES]
            shares = [(nets[at] - paths[at]).norm(dim=1) / (paths[at] - held.start).norm(dim=1) for at in TIMES]
            table[f"distance of {form}, {which}"] = [float(share.mean()) for share in shares]
        error = (held.y[pictures] - mean).square().mean(dim=(1, 2))
        table[f"the mean picture, {which}"] = [float((-10 * error.log10()).mean())] * len(TIMES)
    return table, costs, seconds


def trained(form: str, held: Pictures, field: Field, seed: int) -> Callable[[Tensor, int], Tensor]:
    """Return the weights ``[n, P]``, of pictures' labels ``[n, L]`` at a step, of a generator trained on the seen ones."""
    encoder = encoder_of(held.labels.shape[1], (128,), CODE, held.net.device)
    phi = {name: tensor[0].requires_grad_() for name, tensor in field.generator.init([seed]).items()}
    psi = {name: tensor[0].requires_grad_() for name, tensor in encoder.init([seed]).items()}
    weights = [*phi.values(), *psi.values()]
    optimizer = torch.optim.Adam(weights)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS, div_factor=3)
    draw = rng.arrays(seed, "pictures learned")
    for _ in range(STEPS):
        pictures = torch.from_numpy(draw.integers(0, SEEN, CONDITIONS))
        times = torch.from_numpy(draw.integers(0, field.horizon, CONDITIONS)).float()
        codes, y = encoder.one(psi, held.labels[pictures]), held.y[pictures]
        if form == "field":
            total = field.mismatch(phi, held.start, codes, times, lambda w, y=y: held.gradient(w, y)).mean()
        else:
            last = field.weights(phi, held.start, codes, torch.full_like(times, field.horizon))
            total = torch.vmap(held.loss)(last, y).mean()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()

    @torch.no_grad()
    def made(labels: Tensor, at: int) -> Tensor:
        return field.weights(phi, held.start, encoder.one(psi, labels), torch.full((len(labels),), float(at)))

    return made


TASKS = 30
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole nets": ("independent", {}),
    "quantised, 5 bits": ("skill_recall", {"codec": "quantised"}),
    "quantised, 3 bits": ("skill_recall", {"codec": "quantised", "bits": 3}),
    "one autoencoder of 20": ("skill_recall", {"block": 0, "latent": 20, "max_passes": 1}),
    "basis, residual .9": ("skill_recall", {"codec": "basis", "threshold": 0.9, "decoder_bits": 5}),
    "hypernet": ("hypernet", {"train.optimizer": "adam", "train.lr": 3e-3, "code": CODE}),
    "hypernet_field, code": ("hypernet_field", {}),
    "hypernet_field, labels": ("hypernet_field", {"condition": "labels"}),
}


def kept() -> None:
    print(
        f"\nfields_mnist, {TASKS} pictures one after the other, seeds 0 to {SEEDS[-1]}: PSNR at the end; bytes of recall"
    )
    print(f"{'':<28}{'at once':<16}{'final':<16}{'bytes a picture':>16}{'CPU s a picture':>17}")
    for name, (strategy, options) in ROWS.items():
        began, heard = time.process_time(), []  # type: ignore[var-annotated]
        own = {"stream.n": TASKS, "agenda.evaluate_every": 0, **options}
        with TemporaryDirectory() as folder:
            experiment = Experiment.of("fields_mnist", strategy, SEEDS, **own)
            listen = [lambda event, heard=heard: heard.append(event) if isinstance(event, SkillBytes) else None]
            run = open_run(experiment.run(Path(folder) / "run", listeners=lambda stream, listen=listen: listen))
            R, final = run.results.score.values, run.final.acc.values  # R: evaluation × task × seed
            once = np.diagonal(R[-R.shape[1] :], axis1=0, axis2=1).mean(axis=1)
            net = Experiment.of("fields_mnist", strategy, SEEDS).build_strategy(experiment.stream()).net
        size = heard[-1].recall_only / TASKS if heard else net.parameters * 4
        seconds = (time.process_time() - began) / TASKS
        print(f"{name:<28}{shown(once, 2):<16}{shown(final, 2):<16}{size:>16,.0f}{seconds:>17.2f}", flush=True)


def shown(values: Any, decimals: int) -> str:
    """Return mean and sample deviation over seeds."""
    values = np.asarray(values, dtype=float)
    return f"{values.mean():.{decimals}f} ± {values.std(ddof=1) if len(values) > 1 else 0:.{decimals}f}"


def picture() -> None:
    """Draw PSNR over the steps, of seen and unseen pictures."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    colours = {"SGD": "#000000", "field": "#0072B2", "direct": "#D55E00", "the mean picture": "#999999"}
    for line in OUTPUT.read_text().splitlines():
        found = re.match(r"(SGD|field|direct|the mean picture), (seen|unseen) +(.*)", line)
        if found is not None:
            means = [float(cell) for cell in re.findall(r"(-?[\d.]+) ±", found[3])]
            axis = axes[int(found[2] == "unseen")]
            style = ":" if found[1].startswith("the") else "-o"
            axis.plot(TIMES, means, style, color=colours[found[1]], label=found[1], markersize=4)
            axis.set(title=f"pictures {found[2]}", xlabel="step t", xscale="log")
    axes[0].set_ylabel("PSNR (dB)")
    axes[1].legend(fontsize=8)
    figure.savefig(DRAWN, dpi=110)


def main() -> None:
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], None]] = {"steps": steps, "bytes": kept, "picture": picture}
    asked = sys.argv[1:] or [*parts]
    if asked != ["picture"]:
        print(f"torch {torch.__version__}, one thread; mean ± sample deviation over seeds")
    for part in asked:
        parts[part]()


if __name__ == "__main__":
    main()
