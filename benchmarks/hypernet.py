"""Nets made from codes: what is kept, what a field says of SGD, of tasks never met too, and what the hundredth task costs.

    PYTHONPATH=. python benchmarks/hypernet.py [PART …] | tee benchmarks/output/hypernet.txt

Parts: continual, fields, audited, unseen, hundred; all need no files. Numbers are means over seeds with the deviation of a
sample, on test rows but for ``audited``; choices were made on validation rows. ``unseen`` gives a field the angle of rotated
digits in place of a learned code: 13 angles are learned, the 12 between are not. "direct" is the same generator, trained by
the loss of its nets at the last step alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Event, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.nn.target import quality
from cl_engine.recall.events import FieldAudited, FieldResidual, SkillBytes
from cl_engine.recall.field import Field, sgd_path
from cl_engine.recall.hypernetwork import Generator, GeneratorOptions
from cl_engine.recall.manifest import Manifest
from cl_engine.results import open_run

SEEDS = (0, 1, 2)
TIMES = (5, 15, 40, 80, 150)
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "hypernet, beta 1": ("hypernet", {}),
    "hypernet, beta 0": ("hypernet", {"beta": 0.0}),
    "independent": ("independent", {}),
    "skill_recall": ("skill_recall", {}),
    "finetune": ("finetune", {}),
}
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "hypernet_field, beta 1": ("hypernet_field", {}),
    "hypernet_field, beta 0": ("hypernet_field", {"beta": 0.0}),
}
STEPS, CONDITIONS, BATCH = 3_000, 16, 128  # of the fields of angles


def shown(values: Any) -> str:
    """Return mean and sample deviation over seeds."""
    values = np.asarray(values, dtype=float)
    return f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else 0:.3f}"


def continual(rows: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """Compare a strategy with and without what holds past codes, beside others that keep a net a task."""
    print(
        f"\nhypernet_digits, 5 tasks, seeds 0 to {SEEDS[-1]}: accuracy at once and at the end; bytes of one seed; seconds of all"
    )
    print(
        f"{'':<24}{'at once':<16}{'final ACC':<16}{'forgetting':<16}{'recall':>10}{'in all':>10}{'whole nets':>12}{'CPU s':>7}"
    )
    for name, (strategy, options) in rows.items():
        began, heard = time.process_time(), []  # type: ignore[var-annotated]
        with TemporaryDirectory() as folder:
            experiment = Experiment.of("hypernet_digits", strategy, SEEDS, **options)
            listen = [lambda event, heard=heard: heard.append(event) if isinstance(event, SkillBytes) else None]
            run = open_run(experiment.run(Path(folder) / "run", listeners=lambda stream, listen=listen: listen))
            R = run.results.score.values  # evaluation × task × seed
            once = np.diagonal(R[-R.shape[1] :], axis1=0, axis2=1).mean(axis=1)
            final = run.final
        sizes = "".join(f"{getattr(heard[-1], of):>{wide},}" for of, wide in BYTES) if heard else " " * 32
        line = f"{name:<24}{shown(once):<16}{shown(final.acc.values):<16}{shown(final.forgetting.values):<16}"
        print(f"{line}{sizes}{time.process_time() - began:>7.0f}", flush=True)


BYTES = (("recall_only", 10), ("in_all", 10), ("kept_whole", 12))


def audited() -> None:
    """Compare the field of the last of three tasks with a real run of SGD, on validation rows."""
    print(
        f"\nhypernet_digits, 3 tasks, hypernet_field, a fifth of rows aside, seeds 0 to {SEEDS[-1]}: field of the last and SGD"
    )
    options = {"stream.validation": 0.2, "stream.n": 3, "agenda.evaluate_every": 0, "audit": list(TIMES)}
    told = [event for event in events("hypernet_field", SEEDS, **options) if event.step == 2]
    print(f"{'step':<8}{'field':<16}{'SGD':<16}{'distance / way of SGD':<24}")
    for event in (event for event in told if isinstance(event, FieldAudited)):
        print(f"{event.time:<8}{shown(event.accuracy):<16}{shown(event.accuracy_sgd):<16}{shown(event.distance)}")
    residuals = [event for event in told if isinstance(event, FieldResidual)]
    print(
        "residual / step of SGD: " + "; ".join(f"{event.part}: {shown(event.value)}" for event in residuals), flush=True
    )


def events(strategy: str, seeds: tuple[int, ...], **options: Any) -> list[Event]:
    """Return the events of a run."""
    experiment = Experiment.of("hypernet_digits", strategy, seeds, **options)
    stream = experiment.stream()
    return list(simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)))


def unseen() -> None:
    """Give a field angles in place of codes, and test it between them, beside SGD and the direct form."""
    print(
        f"\nrotated digits, a code of the angle, {STEPS:,} steps, seeds 0 to {SEEDS[-1]}: accuracy and distance / way of SGD"
    )
    tables: dict[tuple[str, str], list[Any]] = {}
    for seed in SEEDS:
        for form, at, which, numbers in angles(seed):
            tables.setdefault((form, which), []).append((at, numbers))
    print(f"{'':<21}" + "".join(f"t = {at:<12}" for at in TIMES))
    for (form, which), found in tables.items():
        cells = [shown([numbers for at, numbers in found if at == time]) for time in TIMES]
        print(f"{form + ', ' + which:<21}" + "".join(f"{cell:<16}" for cell in cells), flush=True)


def angles(seed: int) -> list[tuple[str, int, str, float]]:
    """Return, of one seed, the form, the step, whether angles were learned, and accuracy or distance."""
    options = {"stream.name": "rotated", "stream.n": 25, "stream.degrees": 187.5, "eta": 0.5}  # every other is learned
    experiment = Experiment.of("hypernet_digits", "hypernet_field", (seed,), **options)
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    net, target, field = learner.net, learner.target, learner.field  # type: ignore[attr-defined]
    manifest = Manifest.of(net, net.init([seed]))
    start = manifest.vector(net.init([seed]))[0]
    x = [net.prepare(stream[kind].train.x) for kind in range(25)]
    y = stream[0].train.y
    turns = torch.arange(25) * 7.5 * torch.pi / 180
    codes = torch.stack([turns.sin(), turns.cos(), (2 * turns).sin(), (2 * turns).cos()], dim=1)

    def loss(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
        made = {name: tensor[0] for name, tensor in manifest.params(weights.unsqueeze(0), {}).items()}
        return target.loss(net.one(made, x), y)

    slope = torch.func.grad(loss)
    generator = Generator(manifest, GeneratorOptions(code=4, hidden=[128] * 3), net.device, timed=True)
    made = {
        form: trained(form, Field(generator, field.horizon, field.eta), start, codes, x, y, loss, seed)
        for form in FORMS
    }
    found: list[tuple[str, int, str, float]] = []
    for kind in range(25):
        which = "unseen" if kind % 2 else "seen"
        rows = stream.test(kind)
        gradient: Callable[[Tensor, Tensor], Tensor] = lambda w, index, x=x[kind]: slope(w, x[index], y[index])  # noqa: E731
        paths = list(sgd_path(gradient, start, len(y), BATCH, field.eta, TIMES, seed))
        for at, reached in zip(TIMES, paths, strict=True):
            weights = {"SGD": reached, **{form: made[form](codes[kind], at) for form in FORMS}}
            for form, vector in weights.items():
                outputs = net.all(manifest.params(vector.unsqueeze(0), {}), rows.x)
                found.append((form, at, which, float(quality(target, outputs, rows.y)[0])))
                if form != "SGD":
                    away = float((vector - reached).norm() / (reached - start).norm())
                    found.append((f"… {form} off", at, which, away))
    means: dict[tuple[str, int, str], list[float]] = {}
    for *key, number in sorted(found, key=lambda one: (LINES.index(one[0]), one[2])):
        means.setdefault(tuple(key), []).append(number)
    return [(*key, float(np.mean(numbers))) for key, numbers in means.items()]


FORMS = ("field", "direct")
LINES = ("SGD", *FORMS, *(f"… {form} off" for form in FORMS))


def trained(
    form: str, field: Field, start: Tensor, codes: Tensor, x: list[Tensor], y: Tensor, loss: Any, seed: int
) -> Callable[[Tensor, int], Tensor]:
    """Return the weights, by code and step, of a generator trained on every other angle."""
    phi = {name: tensor[0].requires_grad_() for name, tensor in field.generator.init([seed]).items()}
    optimizer = torch.optim.Adam(phi.values())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS, div_factor=3)
    draw = rng.arrays(seed, "angles")
    every = torch.vmap(torch.func.grad(loss))
    for _ in range(STEPS):
        kinds = draw.integers(0, 13, CONDITIONS) * 2
        index = torch.from_numpy(np.stack([draw.permutation(len(y))[:BATCH] for _ in kinds]))
        inputs, labels = torch.stack([x[kind][rows] for kind, rows in zip(kinds, index, strict=True)]), y[index]
        times = torch.from_numpy(draw.integers(0, field.horizon, CONDITIONS)).float()
        if form == "field":
            total = field.mismatch(phi, start, codes[kinds], times, lambda w, a=inputs, b=labels: every(w, a, b)).mean()
        else:
            last = field.weights(phi, start, codes[kinds], torch.full_like(times, field.horizon))
            total = torch.vmap(loss)(last, inputs, labels).mean()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(phi.values(), 1.0)
        optimizer.step()
        schedule.step()
    fixed = {name: tensor.detach() for name, tensor in phi.items()}
    return lambda code, at: field.weights(fixed, start, code.unsqueeze(0), torch.tensor([float(at)]))[0]


def hundred() -> None:
    """Learn a hundred permutations with one generator; the time of a task is told by the clock of the CPU."""
    tasks = 100
    print(
        f"\nhypernet_digits, {tasks} permutations, 10 epochs of batches of 64, hypernet, code 32, hidden 128-128, seed 0"
    )
    options: dict[str, Any] = {"stream.n": tasks, "agenda.evaluate_every": 0, "code": 32, "hidden": [128, 128]}
    options |= {"train.batch": 64, "train.epochs": 10}
    experiment = Experiment.of("hypernet_digits", "hypernet", (0,), **options)
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    seconds, at_once, began, size = [], [], time.process_time(), None
    for event in simulate(stream, learner, plan(stream, experiment.agenda)):
        if isinstance(event, SkillBytes):
            size = event
        if isinstance(event, TaskLearned):
            seconds.append(time.process_time() - began)
            rows = stream.test(event.task_id)
            once = float(quality(learner.target, learner.predict(rows.x, event.task_id), rows.y)[0])
            at_once.append(once)
            began = time.process_time()
    final = []
    for task in range(tasks):
        rows = stream.test(task)
        final.append(float(quality(learner.target, learner.predict(rows.x, task), rows.y)[0]))
    parts = [(0, 10), (10, 20), (32, 50), (50, 75), (75, 100)]
    print("CPU s a task: " + "; ".join(f"{a + 1}–{b}: {np.mean(seconds[a:b]):.2f}" for a, b in parts))
    print(f"accuracy at once {np.mean(at_once):.3f}, at the end {np.mean(final):.3f}, worst task {min(final):.3f}")
    assert size is not None
    print(
        f"bytes that recall reads {size.recall_only:,}; in all {size.in_all:,}; whole nets {size.kept_whole:,}",
        flush=True,
    )


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread; mean ± sample deviation over seeds")
    fields = {"continual": lambda: continual(ROWS), "fields": lambda: continual(FIELDS)}
    parts: dict[str, Callable[[], None]] = {**fields, "audited": audited, "unseen": unseen, "hundred": hundred}
    for part in sys.argv[1:] or parts:
        parts[part]()


if __name__ == "__main__":
    main()
