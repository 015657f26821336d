"""Files replaced as a whole, so that a reader or a crash finds the old or the new one; folders with one writer."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cl_engine.errors import UsageError

REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
NO_FOLDER = {errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}

UMASK = os.umask(0)  # can only be asked for by setting it
os.umask(UMASK)


def replace(part: Path, path: Path, keep: Path | None = None) -> None:
    """Put ``part`` in the place of ``path`` so that a reader, or a crash, finds either the old file or the new one.

    With ``keep``, the old file goes there first; a crash in between leaves it there, whole.
    """
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.chmod(0o666 & ~UMASK)  # some writers make files that nobody else may read
    if keep is not None and path.exists():
        path.replace(keep)
    part.replace(path)
    sync_folder(path.parent)


def write(path: Path, content: bytes) -> None:
    """Write a file whole: it is complete and on the disk before it takes the place of the one that was there."""
    if not path.name or path.is_dir():
        raise UsageError(f"'{path}' is a folder, where a file is to be written")
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    replace(part, path)


def hold(folder: Path, lock: FileLock, taken: str) -> list[Path]:
    """Make a folder if there is none, and become the one process that writes to it.

    Returns the folders that were made for it, the innermost first.

    Raises:
        UsageError: with the sentence ``taken`` if another process has the lock, or if the folder cannot be written to.
    """
    try:
        str(folder).encode()  # the writer of checkpoints takes no other names
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(f"{taken}: wait for it, or give another --out") from None
    except UnicodeEncodeError:
        raise UsageError(f"{folder} cannot be written to: the name of such a folder must be UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise UsageError(f"{folder} cannot be written to: {getattr(error, 'strerror', None) or error}") from None
    return made


def unmake(made: list[Path]) -> None:
    """Remove folders that `hold` has made, as far as there is nothing in them but the lock."""
    with contextlib.suppress(OSError):
        for folder in made:
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()


def user_cache() -> Path:
    """Return where this program keeps what it needs again, in the user's cache; a user without a home has ``/`` for one."""
    try:
        home = Path.home()
    except RuntimeError:  # no $HOME, and a user that the system does not know
        home = Path("/")
    return home / ".cache" / "cl-engine"


@contextmanager
def kept_in(folder: Path, variable: str, flag: str = "") -> Iterator[None]:
    """Make a folder for files that are kept from run to run, and write them there.

    Raises:
        UsageError: if that is not allowed, with the flag and the variable of the environment that name another folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in REFUSED | NO_FOLDER:
            raise
        how = (
            f"name a folder that can by {flag}, or set {variable} to it"
            if flag
            else f"set {variable} to a folder that can"
        )
        raise UsageError(f"{folder} cannot be written to: {error.strerror or error}; {how}") from None


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: files that were made, renamed or removed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def need_room(folder: Path, size: int) -> None:
    """Raise the error of a full disk ahead of time: HDF5 cannot let go of a file that it could not finish writing.

    Raises:
        OSError: with ``ENOSPC``, if fewer bytes than that are free.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse_links(*folders: Path) -> None:
    """Refuse folders that hold symbolic links: what is written there would be written elsewhere.

    Raises:
        UsageError: naming the first link.
    """
    for folder in folders:
        for entry in folder.iterdir():
            if entry.is_symlink():
                raise UsageError(
                    f"{entry} is a link to {entry.readlink()}; what is written into a folder of runs must "
                    "stay there: remove it"
                )


def put(path: Path, content: bytes) -> None:
    """Write a file that somebody asked for whole, with the folders above it, or leave what was there.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(path.name + ".part").unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
