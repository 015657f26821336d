"""Modules of tasks as files: weights in safetensors, programs for `torch.export` and ONNX."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cl_engine.core.files import replace
from cl_engine.errors import UsageError
from cl_engine.export.needed import needed
from cl_engine.nn.task_module import TaskModule, WholeStrategy

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def save(file: Path, module: TaskModule, x: Tensor, about: Mapping[str, str]) -> None:
    """Write a module as the file's ending says; the file is whole, or as it was before.

    Args:
        file: where.
        module: answers a task.
        x: rows ``[2, …]`` as it is given them, of whose type and shape a program's inputs are.
        about: what the file says of itself; ``strategy`` is named in errors.

    Raises:
        UsageError: if the ending is none of these, a package is missing, or the module cannot be written so.
    """
    check_ending(file)
    with written_whole(file) as part:
        WRITERS[file.suffix](part, module, x, about)


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Give a path beside a file to write to, which takes the file's name at the end: the file is whole, or as it was before.

    Raises:
        UsageError: if it cannot be written.
    """
    part = file.with_name(f"{file.stem}.part{file.suffix}")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()  # that it cannot be written, some writers say in errors of their own
        yield part
        replace(part, file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def check_ending(file: Path) -> None:
    """Raise a `UsageError` if the file's ending names no way to write a module."""
    if file.suffix not in WRITERS:
        raise UsageError(f"{file}: what is to be written is told from the ending, which is one of {', '.join(WRITERS)}")


def weights_of(module: TaskModule, strategy: str) -> dict[str, Tensor]:
    """Return the weights of what reads the scaled inputs, by its own names.

    Raises:
        UsageError: if rows decide which weights answer them.
    """
    if isinstance(module.answering, WholeStrategy):
        raise UsageError(
            f"the strategy '{strategy}' has no weights of one task here, since rows decide what answers them and all it has "
            "learned takes part: module(task) holds that, in Python"
        )
    return {name: tensor.detach().cpu() for name, tensor in module.answering.state_dict().items()}


def _weights(file: Path, module: TaskModule, x: Tensor, about: Mapping[str, str]) -> None:
    tensors = {name: tensor.clone().contiguous() for name, tensor in weights_of(module, about["strategy"]).items()}
    save_file(tensors, file, metadata=dict(about))


def _program(file: Path, module: TaskModule, x: Tensor, about: Mapping[str, str]) -> None:
    program = _exported(module, x, about)
    _compare(program.module()(x), module(x), "torch.export")
    torch.export.save(program, file, extra_files={"about.json": json.dumps(dict(about))})


def _onnx(file: Path, module: TaskModule, x: Tensor, about: Mapping[str, str]) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        needed(package, extra="onnx")
    program = _exported(module, x, about)
    try:
        with _quietly():
            made: Any = torch.onnx.export(
                program, input_names=["x"], output_names=["outputs"], dynamo=True, verbose=False
            )
    except Exception as error:  # of what torch can do, ONNX has a part
        raise UsageError(f"ONNX has no such net ({_said(_root(error))}); save it as .pt2 or .safetensors") from None
    made.model.metadata_props.update(about)
    made.save(str(file), external_data=False)
    session = needed("onnxruntime", extra="onnx").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.cpu().numpy()})
    _compare(torch.from_numpy(found), module(x).cpu(), "ONNX")


WRITERS: dict[str, Callable[[Path, TaskModule, Tensor, Mapping[str, str]], None]] = {
    ".safetensors": _weights,
    ".pt2": _program,
    ".onnx": _onnx,
}


def _exported(module: TaskModule, x: Tensor, about: Mapping[str, str]) -> torch.export.ExportedProgram:
    """Return the module traced for any number of rows."""
    if not module.exportable:
        raise UsageError(
            f"the answers of '{about['strategy']}' are no program of a row alone here, since what they are computed with is "
            "decided by the rows, or drawn: module(task) gives them in Python"
        )
    module.requires_grad_(False)
    try:
        with _quietly():
            return torch.export.export(module, (x,), dynamic_shapes={"x": {0: torch.export.Dim("rows")}})
    except Exception as error:  # a module of somebody else's may do what cannot be traced, in any way
        raise UsageError(
            f"torch.export cannot trace the net for any number of rows ({_said(error)}): save its weights as .safetensors"
        ) from None


def _root(error: BaseException) -> BaseException:
    """Return what an error came of in the end: what is raised at last tells of steps of the export alone."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _said(error: BaseException) -> str:
    """Return the first line of what an error says, without colours and without the beginning of a list that is left out."""
    first = (COLOURS.sub("", str(error)).strip() or type(error).__name__).splitlines()[0]
    return first.removesuffix("Next steps:").rstrip(" .")[:300]


def _compare(found: Tensor, wanted: Tensor, what: str) -> None:
    """Refuse a program that is not the function it was made from, within rounding."""
    if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-4):
        worst = float((found - wanted).abs().max())
        raise UsageError(
            f"the program of {what} answers otherwise than the net, by up to {worst:.2g}: nothing was written"
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what tracing says of itself from the user: what matters is compared afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
