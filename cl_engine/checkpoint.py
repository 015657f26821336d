"""State on disk: one safetensors file, checked by checksums, replaced as a whole, and loaded without running code."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cl_engine.bank import Bank
from cl_engine.disk import replace
from cl_engine.errors import UsageError
from cl_engine.tree import built, leaves

FORMAT = "cl-engine-checkpoint/1"


def save(path: Path, state: Mapping[str, Any]) -> int:
    """Write a nested dict of tensors, arrays, banks, numbers, strings and lists of them to ``path``; return the bytes written.

    The file is complete and on the disk (fsync) before it takes the place of the one that was there.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    banks: dict[str, tuple[int, ...]] = {}
    arrays: list[str] = []
    for place, leaf in leaves(state):
        name = "/".join(place)
        if isinstance(leaf, Bank):
            tensors[name], banks[name] = leaf.rows.contiguous().cpu(), leaf.written
        elif isinstance(leaf, np.ndarray):
            tensors[name] = torch.from_numpy(np.ascontiguousarray(leaf))
            arrays.append(name)
        elif isinstance(leaf, Tensor):
            tensors[name] = leaf.detach().contiguous().cpu()
        else:
            values[name] = leaf
    sums = {name: _crc(tensor) for name, tensor in tensors.items()}
    content = json.dumps({"values": values, "banks": banks, "arrays": arrays, "crc32": sums})
    metadata = {"format": FORMAT, "content": content, "crc32": str(zlib.crc32(content.encode()))}
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata=metadata)
    replace(part, path)
    return path.stat().st_size


def load(path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """Return what `save` wrote, its tensors on ``device``.

    Raises:
        UsageError: if the file is damaged or is no checkpoint of this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UsageError(f"{path} is not a checkpoint of this version: format {metadata.get('format')!r}")
            text = metadata["content"]
            if str(zlib.crc32(text.encode())) != metadata["crc32"]:
                raise UsageError(f"{path} is damaged: the checksum of its contents list is wrong")
            content = json.loads(text)
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged or is no checkpoint: {error}") from None
    if set(tensors) != set(content["crc32"]):
        raise UsageError(f"{path} is damaged: it does not hold the tensors its contents list names")
    for name, tensor in tensors.items():
        if _crc(tensor) != content["crc32"][name]:
            raise UsageError(f"{path} is damaged: the checksum of '{name}' is wrong")
    found: dict[str, Any] = dict(content["values"])
    for name, stored in tensors.items():
        if name in content.get("arrays", ()):
            found[name] = stored.numpy()
        elif name in content["banks"]:
            found[name] = Bank(stored.to(device), content["banks"][name])
        else:
            found[name] = stored.to(device)
    return built({tuple(name.split("/")): leaf for name, leaf in found.items()})


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0
