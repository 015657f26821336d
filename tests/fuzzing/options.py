"""Inputs made of words: scenarios, --set, every option there is, sweeps, and what is typed."""

from __future__ import annotations

import functools
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from cl_engine.engine.agenda import AgendaOptions
from cl_engine.runs import plugins
from cl_engine.sweep.config import HalvingOptions, ResourceOptions, SweepOptions
from cl_engine.training.optimizers import Train
from tests.fuzzing.harness import Case
from tests.fuzzing.mutations import bytes_changed, near, tables_changed, tokens_changed, toml_of, toml_value, value

MLP = {"name": "mlp", "hidden": [8, 8, 8]}
TRAIN = {"epochs": 1, "batch": 20, "optimizer": "adam", "lr": 0.01}
AGENDA = {"evaluate_ahead": 1, "curve_batches": 1}
FEW = {"samples_per_class": 4, "test_samples_per_class": 3}
STREAMS: dict[str, dict[str, Any]] = {
    "permuted": {"source": "digits", "n": 3, **FEW},
    "resolution": {"source": "digits", "canvas": 8, "sizes": [4, 6, 8], "blur": [0.0, 1.0, 0.0], **FEW},
    "rotated": {"source": "digits", "n": 3, "degrees": 90.0, **FEW},
    "split": {"source": "digits", "n": 5, "setting": "class", "class_order": 1, **FEW},
    "one_against": {"source": "digits", "n": 4, "of": 2, **FEW},
    "datasets": {"sources": ["digits", {"source": "digits", "classes": [1, 2]}], "shape": [1, 8, 8], **FEW},
    "compositional": {"sources": ["digits"], "n": 4, "depth": 2, "transforms": ["turn", "invert"], **FEW},
    "ctrl": {
        "kind": "s_minus",
        "shape": [3, 8, 8],
        "stand_ins": dict.fromkeys(("cifar10", "mnist", "dtd", "fashion_mnist", "svhn", "cifar100"), "digits"),
        "large": [4, 2],
        "small": [2, 1],
        "tiny": [1, 1],
        "test_samples_per_class": 2,
    },
}
NETS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [8, 8], "norm": "none", "dropout": 0.0},
    "small_cnn": {"width": 4, "layers": 2, "norm": "group"},
    "isometric": {"width": 4, "steps": 2, "patch": 2, "kernel": 3, "norm": "layer"},
    "modular_resnet": {"width": 4, "split_last": False},
    "resized": {"inner": "small_cnn", "inner_options": {"width": 4}, "size": 6, "filters": 4, "front": "strided"},
    "resnet18": {"width": 4, "norm": "group", "groups": 2},
}
OF_STRATEGIES: dict[str, dict[str, Any]] = {
    "skill_recall": {"buffer": 2, "latent": 4, "block": 2, "max_passes": 2, "sketch": 8},
    "mntdp": {"lrs": [0.01], "weight_decays": [0.0]},
    "mntdp_s": {"search": 1, "settled": 0},
    "compose": {"joint": 2, "rows": 20},
    "piggyback": {"mask_lr": 0.01},
}


def base(draw: Random) -> tuple[dict[str, Any], str]:
    """Return the tables of a good scenario, small in all its parts, and a strategy for it."""
    name = draw.choice(sorted(STREAMS))
    net = {**MLP} if draw.random() < 0.7 else {"name": (kind := draw.choice(sorted(NETS))), **NETS[kind]}
    strategy = draw.choice(plugins.names("strategies"))
    tables: dict[str, Any] = {
        "stream": {"name": name, **STREAMS[name]},
        "net": net,
        "train": {**TRAIN},
        "agenda": {**AGENDA},
    }
    if tables["stream"].get("setting", "task") not in plugins.load("strategies", strategy).settings:
        tables["stream"]["setting"] = "task"
    if strategy == "compose":
        tables["net"] = {"name": "isometric", **NETS["isometric"]}
    if strategy in OF_STRATEGIES:
        tables["strategy"] = {strategy: dict(OF_STRATEGIES[strategy])}
    return tables, strategy


def _run(folder: Path, tables: dict[str, Any] | str | bytes, strategy: str, *settings: str, **about: Any) -> Case:
    text = toml_of(tables) if isinstance(tables, dict) else tables
    file = folder / "s.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    argv = ["run", str(file), "-s", strategy, "--out", str(folder / "run"), "--quiet", "--device", "cpu"]
    argv += ["--data-root", str(folder / "data"), *(part for setting in settings for part in ("--set", setting))]
    return Case(argv, folder / "run", **about)


def scenario_bytes(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    return _run(folder, bytes_changed(draw, toml_of(tables).encode()), strategy)


def scenario_tokens(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    return _run(folder, tokens_changed(draw, toml_of(tables)), strategy)


def scenario_tables(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    changed = tables_changed(draw, tables)
    return _run(folder, changed, strategy, about=json.dumps(changed, default=str))


def settings(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    table = draw.choice(("stream", "net", "train", "agenda", "backbone", "backbone.train"))
    good = f"{table}.{draw.choice(_keys())}={toml_value(value(draw))}"
    changed = [good if draw.random() < 0.5 else tokens_changed(draw, good) for _ in range(draw.choice((1, 1, 2)))]
    return _run(folder, tables, strategy, *(text.replace("\x00", "0") for text in changed))


@functools.cache
def _keys() -> list[str]:
    models = [plugins.load(kind, name).Options for kind in ("streams", "nets") for name in plugins.names(kind)]  # type: ignore[attr-defined]
    return sorted({key for model in (*models, Train, AgendaOptions) for key in model.model_fields})


def _option(draw: Random, folder: Path, table: str, model: Any, tables: dict[str, Any], strategy: str) -> Case:
    key = draw.choice(sorted(model.model_fields))
    good = tables.get(table, {}).get(key, model.model_fields[key].get_default())
    changed = near(draw, good) if draw.random() < 0.5 and good is not None else value(draw)
    dotted = f"{table}.{key}" if table != "strategy" else key
    return _run(folder, tables, strategy, f"{dotted}={toml_value(changed)}".replace("\x00", "0"), about=dotted)


def strategy_options(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    while not plugins.load("strategies", strategy).Options.model_fields:
        tables, strategy = base(draw)
    return _option(draw, folder, "strategy", plugins.load("strategies", strategy).Options, tables, strategy)


def stream_options(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    return _option(draw, folder, "stream", plugins.load("streams", tables["stream"]["name"]).Options, tables, strategy)


def net_options(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    name = draw.choice([net for net in NETS if NETS[net]])
    tables["net"] = {"name": name, **NETS[name]}
    return _option(draw, folder, "net", plugins.load("nets", name).Options, tables, strategy)


def train_options(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    return _option(draw, folder, "train", Train, tables, strategy)


def agenda_options(draw: Random, folder: Path) -> Case:
    tables, strategy = base(draw)
    return _option(draw, folder, "agenda", AgendaOptions, tables, strategy)


SWEEP: dict[str, Any] = {
    "scenarios": ["s.toml"],
    "strategies": ["finetune", "replay"],
    "seeds": [0, 1],
    "orders": 2,
    "search": "random",
    "trials": 3,
    "objective": "acc",
    "retries": 1,
    "set": {"train.lr": {"from": 0.001, "to": 0.1, "log": True}, "samples": [10, 20], "train": {"epochs": [1, 2]}},
    "halving": {"tasks": 1, "factor": 2},
    "resources": {"threads": 1, "memory": 1.0, "jobs": 2, "gpus": 0.5},
}


def sweep_requests(draw: Random, folder: Path) -> Case:
    tables, _ = base(draw)
    (folder / "s.toml").write_text(toml_of(tables))
    file = folder / "sweep.toml"
    match draw.randrange(3):
        case 0:
            file.write_bytes(bytes_changed(draw, toml_of(SWEEP).encode()))
        case 1:
            file.write_text(tokens_changed(draw, toml_of(SWEEP)), encoding="utf-8", errors="replace")
        case _:
            file.write_text(toml_of(tables_changed(draw, SWEEP)), encoding="utf-8", errors="replace")
    return Case(["sweep", str(file), "--out", str(folder / "sweep"), "--device", "cpu"], folder / "sweep")


def sweep_flags(draw: Random, folder: Path) -> Case:
    tables, _ = base(draw)
    (folder / "s.toml").write_text(toml_of(tables))
    argv = ["sweep", str(folder / "s.toml"), "-s", "finetune", "-s", "replay", "--out", str(folder / "sweep")]
    models = (SweepOptions, HalvingOptions, ResourceOptions)
    for _ in range(draw.choice((1, 1, 2, 3))):
        match draw.randrange(3):
            case 0:
                key = draw.choice(sorted({key for model in models for key in model.model_fields}))
                argv += [f"--{key}".replace("_", "-"), str(value(draw))]
            case 1:
                argv += ["--set", tokens_changed(draw, "train.lr=log:1e-4..1e-1")]
            case _:
                argv += ["--set", tokens_changed(draw, 'replay.samples=10,20,"a,b",[1,2],{x=1}')]
    return Case([text.replace("\x00", "0") for text in argv], folder / "sweep")


def typed(draw: Random, folder: Path) -> Case:
    """Return a command with words left out, doubled or replaced."""
    tables, strategy = base(draw)
    (folder / "s.toml").write_text(toml_of(tables))
    odd = [str(value(draw)) for _ in range(6)]
    good = draw.choice(
        (
            [
                "run",
                str(folder / "s.toml"),
                "-s",
                strategy,
                "--seeds",
                "2",
                "--out",
                str(folder / "run"),
                "--device",
                "cpu",
            ],
            ["show", str(folder / "run")],
            ["report", str(folder / "run"), "-o", str(folder / "r.html"), "--format", "png", "--size", "column"],
            ["compare", str(folder / "run"), "--by", "acc", "--format", "csv"],
            ["export", str(folder / "run"), "--to", "csv", "-o", str(folder / "e")],
            ["watch", str(folder / "run"), "--once", "--interval", "0.1"],
            ["list", "strategies"],
            ["status", str(folder / "sweep")],
        )
    )
    argv = [*good]
    for _ in range(draw.choice((1, 1, 2, 3))):
        at = draw.randrange(len(argv))
        if at == 0 and draw.random() < 0.8:
            continue
        match draw.randrange(4):
            case 0 if len(argv) > 1:
                del argv[at]
            case 1:
                argv.insert(at, draw.choice([*good, *odd, "--set", "--fresh", "-x", "--seeds", "--", "-h"]))
            case _:
                argv[at] = draw.choice(odd)
    if argv and argv[0] == "watch" and "--once" not in argv:
        argv.append("--once")
    argv = [text.replace("\x00", "0") for text in argv]
    return Case(argv, about=" ".join(argv))


WORDS: dict[str, Callable[[Random, Path], Case]] = {
    "scenario files, bytes": scenario_bytes,
    "scenario files, words and signs": scenario_tokens,
    "scenario files, keys and values": scenario_tables,
    "--set": settings,
    "options of strategies": strategy_options,
    "options of streams": stream_options,
    "options of nets": net_options,
    "options of [train]": train_options,
    "options of [agenda]": agenda_options,
    "sweep files": sweep_requests,
    "sweep flags": sweep_flags,
    "commands": typed,
}
assert tomllib.loads(toml_of(SWEEP)) == SWEEP
