"""Inputs made of files: data sets, weights, logs, checkpoints, the folders of runs and sweeps."""

from __future__ import annotations

import atexit
import functools
import gzip
import io
import json
import os
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from PIL import Image
from safetensors.numpy import save

from cl_engine.data import cifar as cifar_files
from cl_engine.data.mnist1d import SHAPES
from cl_engine.events import Scored
from cl_engine.experiment import Experiment
from tests.conftest import old_log
from tests.fuzzing.harness import Case
from tests.fuzzing.mutations import bytes_changed, tables_changed, toml_of, value
from tests.fuzzing.options import AGENDA, FEW, MLP, TRAIN

LOGS = Path(__file__).parents[1] / "logs"


@functools.cache
def kept() -> Path:
    """Return a folder for what many inputs are made from; removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _tables(source: str, **more: Any) -> dict[str, Any]:
    stream = {"name": "split", "source": source, "n": 2, **FEW}
    return {"stream": stream, "net": {**MLP}, "train": {**TRAIN}, "agenda": {**AGENDA}, **more}


def _run(folder: Path, tables: dict[str, Any], strategy: str = "finetune", **about: Any) -> Case:
    (folder / "s.toml").write_text(toml_of(tables))
    argv = ["run", str(folder / "s.toml"), "-s", strategy, "--out", str(folder / "run"), "--quiet", "--device", "cpu"]
    return Case([*argv, "--data-root", str(folder / "data")], folder / "run", **about)


# data sets


@functools.cache
def _idx() -> dict[str, bytes]:
    draw, found = np.random.default_rng(0), {}
    for half, rows in (("train", 60), ("t10k", 30)):
        labels = np.arange(rows, dtype=np.uint8) % 10
        images = draw.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            found[f"{half}-{kind}-ubyte"] = head + array.tobytes()
    return found


def idx(draw: Random, folder: Path) -> Case:
    dataset, source = draw.choice((("MNIST", "mnist"), ("FashionMNIST", "fashion_mnist")))
    raw = folder / "data" / dataset / "raw"
    raw.mkdir(parents=True)
    for name, content in _idx().items():
        (raw / name).write_bytes(content)
    name = draw.choice(sorted(_idx()))
    match draw.randrange(6):
        case 0:
            (raw / name).unlink()
        case 1:
            (raw / name).write_bytes(_idx()[draw.choice(sorted(_idx()))])
        case 2:
            (raw / name).write_bytes(gzip.compress(_idx()[name]))
        case _:
            head = bytes_changed(draw, _idx()[name][:16])  # most of the bytes are pixels, in which all is allowed
            (raw / name).write_bytes(
                head + _idx()[name][16:] if draw.random() < 0.7 else bytes_changed(draw, _idx()[name])
            )
    return _run(folder, _tables(source), named=[str(raw), str(folder / "data"), f"'{source}'"], about=name)


@functools.cache
def _batch() -> bytes:
    rows = np.arange(2 * cifar_files.PIXELS, dtype=np.uint32).astype(np.uint8).reshape(2, -1)
    content = {"batch_label": "training batch 1 of 5", "labels": [3, 7], "data": rows, "filenames": ["a.png", "b.png"]}
    # numpy has moved since the published files were made
    return pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar(draw: Random, folder: Path) -> Case:
    """Return a published batch that was changed, or a changed one with the right checksum, which only its author could make."""
    batches = folder / "data" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    changed = bytes_changed(draw, _batch()[:600] if draw.random() < 0.5 else _batch())
    if draw.random() < 0.2:
        for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
            (batches / name).write_bytes(changed)
        return _run(folder, _tables("cifar10"), named=[str(folder / "data")])
    return Case(call=lambda: cifar_files.unpacked(changed, "labels", "data_batch_1"), named=["data_batch_1"])


@functools.cache
def _signals() -> dict[str, np.ndarray]:
    draw, found = np.random.default_rng(0), {}
    for name, shape in SHAPES.items():
        rows = np.arange(shape[0]) % 10
        found[name] = draw.normal(size=shape).astype(np.float32) if name.startswith("x") else rows.astype(np.int64)
    return found


def npz(draw: Random, folder: Path) -> Case:
    file = folder / "data" / "mnist1d" / "mnist1d.npz"
    file.parent.mkdir(parents=True)
    arrays: dict[str, Any] = dict(_signals())
    buffer, name = io.BytesIO(), draw.choice(sorted(arrays))
    match draw.randrange(6):
        case 0:
            arrays[name] = draw.choice(
                (arrays[name][:-1], arrays[name].astype(np.float64), arrays[name][None], np.array(0))
            )
            np.savez(buffer, **arrays)
        case 1:
            del arrays[name]
            np.savez(buffer, **arrays)
        case 2:
            arrays[name] = np.array([value(draw)], dtype=object)
            np.savez(buffer, **arrays)
        case 3:
            arrays[name] = np.full_like(arrays[name], draw.choice((-1, 10, 0, 127)))
            np.savez(buffer, **arrays)
        case 4:
            np.savez(buffer, **arrays)
            return _npz(folder, file, buffer.getvalue()[: draw.randrange(900_000)])
        case _:
            with zipfile.ZipFile(buffer, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as packed:
                for key, array in arrays.items():
                    part = io.BytesIO()
                    np.save(part, array[:100])
                    head = part.getvalue()
                    text = head if key != name else bytes_changed(draw, head[:200]) + head[200:]
                    packed.writestr(f"{key}.npy" if key != name or draw.random() < 0.8 else f"../../{key}.npy", text)
            return _npz(folder, file, bytes_changed(draw, buffer.getvalue()))
    return _npz(folder, file, buffer.getvalue())


def _npz(folder: Path, file: Path, content: bytes) -> Case:
    file.write_bytes(content)
    source = "mnist1d" if len(content) % 2 else "mnist1d_images"
    return _run(folder, _tables(source), named=[str(file), f"'{source}'"])


@functools.cache
def _pictures() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    found = {}
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        found[kind.lower()] = buffer.getvalue()
    return found


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def images(draw: Random, folder: Path) -> Case:
    """Return a folder of images in two classes, one of which is changed or is no image."""
    place = folder / "data" / "folder-of-images"
    kinds = [kind for kind in _pictures() if kind != "gif"]
    files = [f"{half}/{label}/{n}" for half in ("train", "test") for label in ("a", "b") for n in range(4)]
    odd = draw.choice(files)
    for name in files:
        kind = draw.choice(kinds)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        content = _pictures()[kind]
        if name == odd:
            content = draw.choice(
                (bytes_changed(draw, content), bytes_changed(draw, content[:64]) + content[64:], EPS, b"")
            )
        (place / f"{name}.{'jpg' if kind == 'jpeg' else kind}").write_bytes(content)
    match draw.randrange(8):
        case 0:
            shutil.rmtree(place / odd.rsplit("/", 1)[0])
        case 1:
            (place / odd.rsplit("/", 1)[0] / "x.png").mkdir()
        case 2:
            (place / odd.rsplit("/", 1)[0] / "x.png").symlink_to(place)
        case 3:
            (place / odd.rsplit("/", 1)[0] / "x.png").symlink_to(folder / "nowhere")
    name = draw.choice(
        ("folder/folder-of-images",) * 12 + ("folder/../data/folder-of-images", f"folder/{place}", "folder/none")
    )
    return _run(folder, _tables(name), named=[str(folder / "data"), "folder/"], about=odd)


# weights and checkpoints


def backbones(draw: Random, folder: Path) -> Case:
    """Return weights for a net, in safetensors, changed in names, shapes, types or bytes."""
    sizes = [64, 8, 8, 8]
    tensors: dict[str, np.ndarray] = {}
    for layer in range(3):
        tensors[f"{2 * layer + 1}.weight"] = np.zeros((sizes[layer + 1], sizes[layer]), np.float32)
        tensors[f"{2 * layer + 1}.bias"] = np.zeros(sizes[layer + 1], np.float32)
    name = draw.choice(sorted(tensors))
    for _ in range(draw.choice((0, 1, 1))):
        match draw.randrange(5):
            case 0:
                del tensors[name]
            case 1:
                tensors[draw.choice((name[:-1], f"{name}x", "head.weight", "", "0.weight"))] = tensors.pop(name)
            case 2:
                tensors[name] = tensors[name][..., :-1].copy()
            case 3:
                tensors[name] = tensors[name].astype(
                    draw.choice((np.float64, np.float16, np.int64, np.int32, np.bool_))
                )
            case _:
                tensors[name] = np.full_like(tensors[name], draw.choice((np.nan, np.inf, 1e38)))
    content = save({str(key): array for key, array in tensors.items()})
    if draw.random() < 0.6:
        content = bytes_changed(draw, content[:500]) + content[500:]
    file = folder / "weights.safetensors"
    file.write_bytes(content)
    tables = {**_tables("digits"), "backbone": {"file": str(file)}}
    return _run(folder, tables, draw.choice(("finetune", "head_only", "independent")), named=[str(file), "backbone"])


STOPPED = ("finetune", "replay", "packnet", "skill_recall", "mntdp")


@functools.cache
def _stopped(strategy: str) -> Path:
    """Return the folder of a run that was stopped after its first experience."""
    folder = kept() / strategy
    (kept() / "s.toml").write_text(toml_of(_tables("digits")))
    experiment = Experiment.of(kept() / "s.toml", strategy)

    class Enough(Exception):
        pass

    def listen(event: Any) -> None:
        if isinstance(event, Scored) and event.step == 1:
            raise Enough

    try:
        experiment.run(folder, device="cpu", listeners=lambda stream: [listen])
    except Enough:
        return folder
    raise AssertionError("the run was not stopped")


def run_folders(draw: Random, folder: Path) -> Case:
    """Return the folder of a stopped run, its checkpoint or its log changed, cut, exchanged or gone, to go on with."""
    strategy = draw.choice(STOPPED)
    shutil.copytree(_stopped(strategy), folder / "run")
    names = sorted(path.name for path in (folder / "run").iterdir() if path.is_file() and path.name != ".lock")
    name = draw.choice([*names, *[found for found in names if found.startswith("checkpoint")] * 2])
    file = folder / "run" / name
    match draw.randrange(9):
        case 0:
            shutil.copy(_stopped(draw.choice(STOPPED)) / name, file)
        case 1:
            file.unlink()
            file.symlink_to(folder / "s.toml")
        case 2:
            (folder / "run" / f"{name}.part").symlink_to(folder / "s.toml")
        case 3:
            file.unlink()
            file.mkdir()
        case 4:
            file.write_bytes(bytes_changed(draw, file.read_bytes()[:2000]) + file.read_bytes()[2000:])
        case _:
            file.write_bytes(bytes_changed(draw, file.read_bytes()))
    return _run(folder, _tables("digits"), strategy, named=[str(folder / "run")], about=name)


# logs

HOSTILE = [
    "=1+1",
    "@SUM(A1)",
    "<script>alert(1)</script>",
    "\x1b]0;x\x07\x1b[2J",
    "[red]x[/red]",
    "a\nError: b",
    "\\input{x}",
    "|-|",
]


def logs(draw: Random, folder: Path) -> Case:
    """Return a log whose bytes, arrays, attributes or texts are changed, and a command that reads it."""
    log = old_log(draw.choice(("1.0", "1.1", "1.2")), folder / "run")
    what = "bytes"
    if draw.random() < 0.45:
        log.write_bytes(bytes_changed(draw, log.read_bytes()))
    else:
        what = ""
        with h5py.File(log, "r+") as file:
            for _ in range(draw.choice((1, 1, 2))):
                what += _log_changed(draw, file)
    commands = (
        ["show", str(folder / "run")],
        ["show", str(log)],
        ["watch", str(folder / "run"), "--once"],
        ["report", str(folder / "run"), "-o", str(folder / "out.html")],
        ["compare", str(folder / "run"), "--format", draw.choice(("csv", "latex", "markdown", "json", "terminal"))],
        [
            "export",
            str(folder / "run"),
            "--to",
            draw.choice(("csv", "l2logger", "netcdf", "parquet")),
            "-o",
            str(folder / "out"),
        ],
    )
    return Case(draw.choice(commands), folder / "run", named=[str(log)], about=what)


def _log_changed(draw: Random, file: h5py.File) -> str:
    places: list[str] = []
    file.visit(places.append)
    place = draw.choice(places)
    item = file[place]
    match draw.randrange(8):
        case 0:
            del file[place]
            return f"{place} gone "
        case 1 if isinstance(item, h5py.Dataset):
            shape = draw.choice(((), (0,), (3,), (2, 2), (1, 1, 1), (5, 3, 2), (10**7,)))
            kind = draw.choice(("f8", "i4", "u1", "S5", "i8", h5py.string_dtype(), "?", "c16", "f2"))
            del file[place]
            file.create_dataset(place, shape, kind)
            return f"{place} {kind} {shape} "
        case 2 if isinstance(item, h5py.Dataset) and item.ndim and item.maxshape[0] is None:
            item.resize(draw.choice((0, 1, len(item) + 1, max(0, len(item) - 1), 10**5)), axis=0)
            return f"{place} resized "
        case 3:
            name = draw.choice(sorted(file.attrs))
            file.attrs[name] = draw.choice(
                (*HOSTILE, 5, [1, 2], 1.5, "", "9.9", "1.x", np.bytes_(b"\xff\xfe"), ["a", "b"])
            )
            return f"@{name} "
        case 4 if file.get("environment"):
            name = draw.choice(sorted(file["environment"]))
            text = draw.choice(
                (*HOSTILE, "{}", "[]", "{" * 3000, "null", '{"options": 5, "seeds": []}', "[" * 100_000, "\u202e")
            )
            held = file["environment"][name][()]
            if name == "experiment" and draw.random() < 0.7 and isinstance(held, bytes) and held:
                options = json.loads(held)
                text = json.dumps(tables_changed(draw, options), default=str)
            del file["environment"][name]
            file["environment"][name] = text
            return f"environment/{name} "
        case 5 if isinstance(item, h5py.Dataset) and item.size and item.dtype.kind in "if":
            odd = draw.choice(
                (0, -1, 127, 10**9, 1e300, np.nan, np.inf)
                if item.dtype.kind == "f"
                else (0, -1, 127, -(2**31), 2**31 - 1)
            )
            item[tuple(draw.randrange(size) for size in item.shape)] = odd
            return f"{place} = {odd} "
        case 6 if isinstance(item, h5py.Dataset) and item.size and h5py.check_string_dtype(item.dtype) and item.ndim:
            item[draw.randrange(len(item))] = draw.choice(HOSTILE)
            return f"{place} hostile "
        case _:
            parent = "/".join(place.split("/")[:-1])
            name = draw.choice((*HOSTILE[:2], "x", "acc", "row", "\u202e")).replace("/", "")
            file.move(place, f"{parent}/{name}{draw.randrange(9)}")
            return f"{place} renamed "


def places(draw: Random, folder: Path) -> Case:
    """Return a command that reads runs and writes somewhere, with places that are not what they should be."""
    old_log("1.2", folder / "runs" / "a")
    shutil.copytree(folder / "runs" / "a", folder / "runs" / "b")
    runs, odd = folder / "runs", folder / "odd"
    match draw.randrange(9):
        case 0:
            odd.symlink_to(odd)
        case 1:
            odd.write_text("text")
        case 2:
            os.mkfifo(odd)
        case 3:
            (runs / "c" / "log.h5").mkdir(parents=True)
        case 4:
            (runs / "c").mkdir()
            (runs / "c" / "log.h5").symlink_to(folder / "nowhere")
        case 5:
            (runs / "c").symlink_to(runs)
        case 6:
            (runs / "c").mkdir()
            os.mkfifo(runs / "c" / "log.h5")
        case _:
            odd.mkdir()
    there = [
        str(runs),
        str(runs / "*"),
        str(runs / "**"),
        str(runs / "a"),
        str(runs / "c"),
        str(runs / "c" / "log.h5"),
        str(odd),
    ]
    there += [str(folder / "[ab"), "", "a" * 300, str(runs / "a" / "log.h5" / "x"), "~nobody/x", str(odd / "x")]
    out = draw.choice(
        [str(folder / "new"), str(folder / "new" / "deep" / "x"), str(odd), str(odd / "x"), "/proc/x", "", "a" * 300]
    )
    asked = [draw.choice(there) for _ in range(draw.choice((1, 1, 2)))]
    command = draw.choice(
        (
            ["report", *asked, "-o", out],
            ["report", *asked, "-o", str(folder / "r.html"), "--pictures", out],
            ["compare", *asked, "-o", out],
            ["export", *asked, "--to", "csv", "-o", out],
            ["show", asked[0]],
            ["watch", asked[0], "--once"] if asked[0] == str(runs / "a") else ["show", asked[0]],
            ["status", asked[0]],
        )
    )
    return Case(command, about=" ".join(command))


# sweeps


@functools.cache
def _sweep() -> Path:
    """Return the folder of a sweep as it is when two of its runs have been tried."""
    folder = kept() / "sweep"
    runs = []
    for number, name in enumerate(("s-finetune-lr=0.1-0123456789", "s-replay-lr=0.1-0123456780")):
        shutil.copytree(old_log("1.2", kept() / "old").parent, folder / name)
        lines = [
            {"outcome": "started", "time": "2026-01-01T00:00:00Z"},
            {"outcome": "failed", "error": "no", "seconds": 1.5},
        ]
        (folder / name / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        changes = {"train.lr": 0.1}
        strategy = name.split("-")[1]
        runs.append(
            {"name": name, "hash": name[-10:], "scenario": "s", "strategy": strategy, "seeds": [0], "changes": changes}
        )
        runs[-1] |= {"reference": bool(number), "trial": {}}
    options = {"scenarios": ["s"], "strategies": ["finetune", "replay"], "retries": 0}
    plan = {"format": "cl-engine-sweep/1", "id": "x", "command": "sweep", "options": options, "runs": runs}
    (folder / "sweep.json").write_text(json.dumps(plan))
    return folder


def sweep_folders(draw: Random, folder: Path) -> Case:
    """Return the folder of a sweep with its plan, or what is noted of a run, changed; asked how it stands."""
    shutil.copytree(_sweep(), folder / "sweep")
    file = folder / "sweep" / "sweep.json"
    if draw.random() < 0.3:
        file = draw.choice(sorted((folder / "sweep").glob("*/attempts.jsonl")))
    match draw.randrange(4):
        case 0 | 1 if file.name == "sweep.json":
            plan = json.loads(file.read_text())
            if draw.random() < 0.5:
                at = draw.randrange(len(plan["runs"]))
                plan["runs"][at] = tables_changed(draw, plan["runs"][at])
            else:
                plan = tables_changed(draw, plan)
            file.write_text(json.dumps(plan, default=str))
        case 2:
            file.write_text(
                json.dumps(value(draw), default=str) * draw.choice((1, 1, 3)) + draw.choice(("", "[" * 50_000, "\n{}"))
            )
        case _:
            file.write_bytes(bytes_changed(draw, file.read_bytes()))
    return Case(["status", str(folder / "sweep")], folder / "sweep", named=[str(folder / "sweep")])


FILES: dict[str, Callable[[Random, Path], Case]] = {
    "MNIST's files": idx,
    "CIFAR's files": cifar,
    "MNIST-1D's archive": npz,
    "images in folders": images,
    "weights of backbones": backbones,
    "folders of runs": run_folders,
    "logs": logs,
    "places": places,
    "folders of sweeps": sweep_folders,
}
