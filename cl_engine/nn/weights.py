"""Weights from elsewhere, checked before a net starts from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from cl_engine.errors import UsageError


def fitting(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], ignored: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors found, as those wanted are in type and place.

    Args:
        found: tensors from somewhere else, by name.
        wanted: those of the net.
        ignored: names that need not fit and are left out.

    Raises:
        UsageError: naming the first that is missing, not known, of another shape, or holds what cannot be a weight there.
    """
    for name in (*wanted, *found):
        if name in ignored:
            continue
        if name not in found or name not in wanted or found[name].shape != wanted[name].shape:
            there = f"of shape {tuple(found[name].shape)}" if name in found else "not there"
            here = f"of shape {tuple(wanted[name].shape)}" if name in wanted else "not known"
            raise UsageError(f"the backbone's weights do not fit the net: '{name}' is {there}, in the net {here}")
        if found[name].is_floating_point() != wanted[name].is_floating_point() or not found[name].isfinite().all():
            raise UsageError(
                f"the backbone's weights do not fit the net: '{name}' holds {found[name].dtype}, or numbers that are not "
                f"finite; in the net it is {wanted[name].dtype}"
            )
    return {name: tensor.to(wanted[name]) for name, tensor in found.items() if name not in ignored}
