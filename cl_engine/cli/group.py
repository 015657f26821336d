"""The group of all commands: what it makes of errors, and of an output that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from cl_engine.cli.arguments import as_called
from cl_engine.cli.shells import VARIABLE
from cl_engine.core.text import sentence
from cl_engine.errors import RunFailed, UsageError

UNWRITABLE = (errno.ENOSPC, errno.EPIPE, errno.EIO)


class Help(click.HelpFormatter):
    """Writes help, with the program's name as it was called.

    >>> Help(width=40).getvalue()
    ''
    """

    def getvalue(self) -> str:
        """Return what was written."""
        return as_called(super().getvalue())


class Called(click.Context):
    """A context whose help names the program as it was called.

    >>> Called(click.Command("list")).make_formatter().__class__.__name__
    'Help'
    """

    formatter_class = Help


class Commands(click.Group):
    """Turns errors that carry a sentence into that sentence and an exit code.

    >>> from click.testing import CliRunner
    >>> from cl_engine.cli import main
    >>> CliRunner().invoke(main, ["show", "nowhere"]).exit_code
    2
    """

    context_class = Called

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, whose help then names the program as it was called."""
        cmd.context_class = Called
        super().add_command(cmd, name)

    def main(self, *args: Any, **named: Any) -> Any:
        """Run a command; signs that the output cannot show are replaced, an output that takes no more ends it in a sentence."""
        named = {"complete_var": VARIABLE, **named}  # the same by whatever name the program is called
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            try:
                return super().main(*args, **named)
            finally:
                sys.stdout.flush()
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            with contextlib.suppress(OSError):
                click.echo(f"Failed: the output cannot be written: {error.strerror or error}", err=True)
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  what is left of it would fail once more at the end
            raise SystemExit(1) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and say an error that carries a sentence as that sentence."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            # it says again what was typed
            raise click.UsageError(sentence(error.format_message()), error.ctx) from None
        except UsageError as error:
            click.echo(f"Error: {as_called(sentence(str(error)))}", err=True)
            raise SystemExit(2) from None
        except RunFailed as error:
            click.echo(f"Failed: {as_called(sentence(str(error)))}", err=True)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise SystemExit(130) from None
