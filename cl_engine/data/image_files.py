"""Single images from files of unknown origin: only formats that are pixels, only sizes that fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cl_engine.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

# PIL goes by what is in a file, not by its name, and has others run programs (EPS: Ghostscript)
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 100_000_000  # pixels
LONGEST = 50  # times as long as wide


def read(path: str | Path) -> Image:
    """Return the image of a file, in colour.

    Raises:
        UsageError: if it cannot be decoded, or is larger or longer than any photograph.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > LARGEST or max(width, height) > LONGEST * min(width, height):
                raise UsageError(
                    f"{path} is an image of {width} × {height} pixels: at most {LARGEST // 10**6} million are allowed, "
                    f"and {LONGEST} times as long as wide"
                )
            return opened.convert("RGB")
    except UsageError:
        raise
    except Exception as error:  # decoders fail in many ways: SyntaxError, struct.error, zlib.error, …
        raise UsageError(f"{path} is not an image that can be read: {error}") from None


def size(path: Path) -> tuple[int, int]:
    """Return width and height of the image of a file, without decoding it.

    Raises:
        UsageError: if the file is no image.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as opened:
            found: tuple[int, int] = opened.size
            return found
    except Exception as error:
        raise UsageError(f"{path} is not an image that can be read: {error}") from None
