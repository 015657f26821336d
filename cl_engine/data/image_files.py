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
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the tag of EXIF, and its values by which width and height change places
GROUND = (255, 255, 255)  # what shows through transparent pixels: paper
AS_COLOUR = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")  # modes of PIL that it brings to RGB as they look
TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")
OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
FULL_SCALE_16 = ("PNG", "PPM")  # formats whose mode I is of 16 bits: PIL has scaled it to them


def read(path: str | Path, *, upright: bool = False) -> Image:
    """Return the image of a file, in colour of 8 bits a channel.

    Grey of 16 bits is scaled to 8, and what is transparent laid over white. ``upright``: turned and mirrored as the EXIF
    orientation says that the camera was held; else as stored.

    Raises:
        UsageError: if it cannot be decoded, is larger or longer than any photograph, or of a mode whose black and white are
            not known (32-bit integers, floats).
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > LARGEST or max(width, height) > LONGEST * min(width, height):
                raise UsageError(
                    f"{path} is an image of {width} × {height} pixels: at most {LARGEST // 10**6} million are allowed, "
                    f"and {LONGEST} times as long as wide"
                )
            return in_colour(ImageOps.exif_transpose(opened) if upright else opened, opened.format, path)
    except UsageError:
        raise
    except Exception as error:  # decoders fail in many ways: SyntaxError, struct.error, zlib.error, …
        raise UsageError(f"{path} is not an image that can be read: {error}") from None


def read_classes(path: Path) -> Image:
    """Return the image of a PNG whose values are class numbers: grey as stored, or places in its palette.

    Raises:
        UsageError: if it cannot be decoded, or is in colour or transparent.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as opened:
            opened.load()
            if opened.mode in ("1", "L", "P", "I", *OF_16_BITS):
                return opened.copy()
            mode = opened.mode
    except Exception as error:  # decoders fail in many ways
        raise UsageError(f"{path} is not a PNG that can be read: {error}") from None
    raise UsageError(
        f"{path} is an image of PIL's mode '{mode}'; class numbers are grey values, or places in a palette"
    )


def in_colour(image: Image, form: str | None, path: str | Path) -> Image:
    """Return an image as RGB of 8 bits; ``form`` is the format of the file at ``path`` that it comes from.

    Raises:
        UsageError: for a mode that cannot be shown as it looks.
    """
    import numpy as np
    from PIL import Image

    if image.mode in TRANSPARENT or (image.mode in AS_COLOUR and "transparency" in image.info):
        shown = image.convert("RGBA")
        ground = Image.new("RGBA", shown.size, (*GROUND, 255))
        return Image.alpha_composite(ground, shown).convert("RGB")
    if image.mode in AS_COLOUR:
        return image.convert("RGB")
    if image.mode in OF_16_BITS or (image.mode == "I" and form in FULL_SCALE_16):
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")  # rounded
    raise UsageError(
        f"{path} is an image of PIL's mode '{image.mode}', which does not say what is black and what is white: save it with "
        "8 or 16 bits a channel"
    )


def size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Return width and height of the image that `read` returns, without decoding it.

    Raises:
        UsageError: if the file is no image.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as opened:
            width, height = opened.size
            return (height, width) if upright and opened.getexif().get(ORIENTATION) in SIDEWAYS else (width, height)
    except Exception as error:
        raise UsageError(f"{path} is not an image that can be read: {error}") from None
