"""Benchmarks built without the network: files missing under the data root are reported, not fetched."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cl_engine.errors import UsageError

IN_LAYOUT = "Put them there in torchvision's layout (`fetch SOURCE --data-root DIR` gets the common ones)"


class WouldDownload(UsageError):
    """A refusal of code that wanted to fetch files.

    >>> issubclass(WouldDownload, UsageError)
    True
    """


@contextmanager
def offline(what: str, where: str, advice: str = IN_LAYOUT) -> Iterator[None]:
    """Refuse every connection that is opened inside the block.

    Raises:
        UsageError: naming ``what`` wanted to connect, ``where`` its files were looked for, and what helps.
    """

    def refused(*arguments: Any, **more: Any) -> Any:
        raise WouldDownload(
            f"{what} wants to download its data: they are not under {where}. {advice}, or let Avalanche fetch them once "
            "from Python"
        )

    names = ("create_connection", "getaddrinfo")
    before = {name: getattr(socket, name) for name in names}
    connect = socket.socket.connect
    try:
        for name in names:
            setattr(socket, name, refused)
        socket.socket.connect = refused  # type: ignore[method-assign]
        yield
    finally:
        for name, function in before.items():
            setattr(socket, name, function)
        socket.socket.connect = connect  # type: ignore[method-assign]
