"""Nothing that is loaded runs code: what the package calls is looked at, and code is planted wherever a file is read."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import EpsImagePlugin

from cl_engine.cli import main
from cl_engine.core.text import sentence
from cl_engine.data import cifar as cifar_files
from cl_engine.data import image_files
from cl_engine.errors import UsageError
from tests.conftest import TINY, old_log
from tests.test_floors import FILES, PACKAGE

# what can run what it reads, and where it is allowed and why
LOADERS = {
    "pickle": {"cifar.py": "CIFAR is published so; an unpickler that knows three names, behind a checksum"},
    "cPickle": {},
    "dill": {},
    "cloudpickle": {},
    "shelve": {},
    "marshal": {},
    "yaml": {},
    "tables": {},
    "hickle": {},
    "runpy": {},
}
CALLS = {
    "eval": {},
    "exec": {},
    "compile": {},
    "__import__": {},
    "torch.load": {},
    "joblib.load": {},
    "np.load": {
        "kept.py": "arrays of this program, which np.load reads without pickle",
        "arrays.py": "archives of users: without pickle, so that an array of objects is refused",
    },
    "numpy.load": {},
    "pd.read_pickle": {},
    "pd.read_hdf": {},
    "subprocess.run": {"checkout.py": "asks git for the commit of the code; nothing that is typed or read takes part"},
    "subprocess.Popen": {"local.py": "the processes of a sweep: this program itself"},
    "os.system": {},
    "os.popen": {},
    "importlib.import_module": {
        "importing.py": "module:object, which is code by nature: what a scenario or a command names so is imported",
        "benchmarks.py": "Avalanche's benchmarks, by a name of ours",
        "lazy_import.py": "Avalanche itself, by a name of ours",
        "moved.py": "modules of this package, by names of ours",
        "registry.py": "the exporters of this package, by its own names",
        "needed.py": "packages that exporters need, by names of ours",
        "run.py": "the room that takes out what was learned, by a name of ours: logs are read without torch",
        "aggregates.py": "scikit-posthocs, by a name of ours: the package is optional",
        "library_nets.py": "timm and transformers, by names of ours",
    },
    "spec.loader.exec_module": {"importing.py": "file.py:object, which is code as module:object is"},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_can_run_what_it_reads_is_used_but_where_it_is_said_why(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert path.name in LOADERS.get(name.split(".")[0], {path.name: ""}), f"{path.name} imports {name}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert path.name in CALLS.get(called, {path.name: ""}), f"{path.name} calls {called}"
            pickled = [ast.unparse(given.value) for given in node.keywords if given.arg == "allow_pickle"]
            assert pickled in ([], ["False"]), f"{path.name} calls {called} with allow_pickle"
            for keyword in node.keywords:
                said = ast.unparse(keyword.value)
                assert (keyword.arg, said) not in {
                    ("allow_pickle", "True"),
                    ("weights_only", "False"),
                    ("shell", "True"),
                }


@pytest.mark.parametrize("allowed", [{**LOADERS, **CALLS}], ids=["all"])
def test_what_is_allowed_is_still_in_use(allowed: dict[str, dict[str, str]]):
    for name, places in allowed.items():
        for place in places:
            held = [path.read_text() for path in FILES if path.name == place]
            assert any(name.rpartition(".")[2] in text for text in held), f"{place} no longer uses {name}"


class Planted:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    return tmp_path / "it ran"


def pickled(planted: Path, protocol: int = 2) -> bytes:
    return pickle.dumps({"data": Planted(planted), "labels": [0]}, protocol=protocol)


def test_what_is_planted_runs_where_pickle_is_used(planted: Path):
    pickle.loads(pickled(planted))["data"].close()
    assert planted.exists()


def torch_saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


PLANTS: dict[str, Callable[[Path], bytes]] = {
    "pickle": pickled,
    "torch": lambda planted: torch_saved({"state": Planted(planted)}),
    "numpy": lambda planted: npz(np.array([Planted(planted)], dtype=object)),
    "gzip": lambda planted: gzip.compress(pickled(planted)),
}


def npz(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=array, y=array, x_test=array, y_test=array)
    return buffer.getvalue()


def command(folder: Path, *words: str) -> tuple[int, str]:
    done = CliRunner(catch_exceptions=False).invoke(
        main, [*words, "--device", "cpu"] if words[0] == "run" else [*words]
    )
    return done.exit_code, done.stderr


def run_of(folder: Path, *settings: str) -> list[str]:
    typed = [part for setting in settings for part in ("--set", setting)]
    return [
        "run",
        str(TINY),
        "-s",
        "finetune",
        "--out",
        str(folder / "run"),
        "--data-root",
        str(folder / "data"),
        *typed,
    ]


def checkpoint(folder: Path, content: bytes) -> list[str]:
    typed = run_of(folder)
    CliRunner().invoke(main, [*typed, "--quiet", "--device", "cpu"])
    with (folder / "run" / "log.h5").open("rb") as file:
        assert file.read(4) == b"\x89HDF"
    import h5py

    with h5py.File(folder / "run" / "log.h5", "r+") as file:
        file.attrs["status"] = "stopped"
    for path in (folder / "run").glob("checkpoint*"):
        path.write_bytes(content)
    return typed


def data_file(folder: Path, content: bytes, *place: str, source: str) -> list[str]:
    path = folder.joinpath("data", *place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return run_of(folder, f"stream.source={source}")


def mnist(folder: Path, content: bytes) -> list[str]:
    raw = ("MNIST", "raw")
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        data_file(folder, content, *raw, name, source="mnist")
    for name in ("training.pt", "test.pt"):  # where torchvision once kept it
        data_file(folder, content, "MNIST", "processed", name, source="mnist")
    return run_of(folder, "stream.source=mnist")


def cifar(folder: Path, content: bytes) -> list[str]:
    for name in (
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
        "batches.meta",
    ):
        data_file(folder, content, "cifar-10-batches-py", name, source="cifar10")
    return run_of(folder, "stream.source=cifar10")


def weights(folder: Path, content: bytes) -> list[str]:
    (folder / "weights.safetensors").write_bytes(content)
    return run_of(folder, f"backbone.file={folder / 'weights.safetensors'}")


def log(folder: Path, content: bytes) -> list[str]:
    (folder / "log.h5").write_bytes(content)
    return ["show", str(folder)]


def sweep(folder: Path, content: bytes) -> list[str]:
    (folder / "sweep.json").write_bytes(content)
    return ["status", str(folder)]


def picture(folder: Path, content: bytes) -> list[str]:
    for half in ("train", "test"):
        data_file(folder, content, "birds", half, "wren", "a.png", source="folder/birds")
    return run_of(folder, "stream.source=folder/birds")


PLACES = {
    checkpoint: "checkpoint",
    mnist: "ubyte",
    cifar: "data_batch_1",
    weights: "weights.safetensors",
    log: "log.h5",
    sweep: "sweep.json",
    picture: "a.png",
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_code_that_is_planted_does_not_run(
    place: Callable[[Path, bytes], list[str]], plant: str, tmp_path: Path, planted: Path
):
    code, said = command(tmp_path, *place(tmp_path, PLANTS[plant](planted)))
    assert not planted.exists()
    assert code == 2
    assert PLACES[place] in said


@pytest.mark.parametrize("plant", PLANTS)
def test_code_in_a_generated_data_set_does_not_run(plant: str, tmp_path: Path, planted: Path):
    content = PLANTS[plant](planted)
    code, said = command(tmp_path, *data_file(tmp_path, content, "mnist1d", "mnist1d.npz", source="mnist1d"))
    assert (code, planted.exists()) == (2, False)
    assert "mnist1d.npz is damaged" in said


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_batch_of_cifar_with_the_right_checksum_can_ask_for_nothing_but_arrays(
    protocol: int, tmp_path: Path, planted: Path
):
    content = pickled(planted, protocol)
    file = tmp_path / "data_batch_1"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"it asks for (io|_io)\.open, and no data of CIFAR need that"):
        cifar_files.read(file, hashlib.md5(content).hexdigest(), "labels")
    assert not planted.exists()


def test_an_image_that_wants_another_program_to_draw_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: pytest.fail("Ghostscript was asked for"))
    file = tmp_path / "wren.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UsageError, match=r"wren\.png is not an image that can be read"):
        image_files.read(file)


def test_an_array_that_claims_terabytes_is_refused_before_there_is_room_for_it(tmp_path: Path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("x", "y", "x_test", "y_test", "../../out"):
            archive.writestr(f"{name}.npy", head.getvalue())
    code, said = command(tmp_path, *data_file(tmp_path, packed.getvalue(), "mnist1d", "mnist1d.npz", source="mnist1d"))
    assert code == 2
    assert "'x' is float32 of shape (1000000000000,)" in said
    assert not list(tmp_path.rglob("out.npy"))


@pytest.mark.parametrize("source", ["folder/../secret", "folder//etc", "folder/a/../../secret"])
def test_a_folder_of_images_lies_under_the_data_root(source: str, tmp_path: Path):
    for half in ("train", "test"):
        (tmp_path / "secret" / half / "a").mkdir(parents=True)
    code, said = command(tmp_path, *run_of(tmp_path, f"stream.source={source}"))
    assert code == 2
    assert "without '..'" in said


@pytest.mark.parametrize(
    "name", ["log.h5", ".log.working.h5", "log.h5.part", "checkpoint.safetensors.part", "anything"]
)
def test_a_folder_of_a_run_with_a_link_in_it_is_refused_and_nothing_is_written_through_it(name: str, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(mine)
    code, said = command(tmp_path, *run_of(tmp_path))
    assert code == 2
    assert re.search(rf"{re.escape(name)} (is a link to|cannot be read as HDF5)", said)
    assert mine.read_text() == "mine"


def test_a_sweep_whose_runs_lie_elsewhere_is_refused(tmp_path: Path):
    old_log("1.2", tmp_path / "secret")
    run = {"name": "../secret", "hash": "x", "scenario": "s", "strategy": "finetune", "seeds": [0], "changes": {}}
    options = {"scenarios": ["s"], "strategies": ["finetune"]}
    plan = {"format": "cl-engine-sweep/1", "id": "x", "command": "", "options": options, "runs": [run]}
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(plan))
    code, said = command(tmp_path, "status", str(tmp_path / "sweep"))
    assert code == 2
    assert "cannot be called '../secret'" in said


def test_an_error_is_one_line_that_moves_no_cursor():
    said = sentence("a\x1b[2Jb\nError: c " + "d" * 10_000)
    assert said.startswith("a[2Jb Error: c d")
    assert "\n" not in said
    assert len(said) < 2100
