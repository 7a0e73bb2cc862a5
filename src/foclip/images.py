"""Pictures in and out: the only place that opens a picture file.

`read` takes what people have (rotated phone photos, CMYK scans, 16-bit PNGs,
animations, transparent logos) and what attackers send (bombs, truncated files,
text named .jpg) and gives upright 8-bit RGB or an `ImageError` that names the
file. `write` makes the PNG whose score we then report.
"""

import io
import os
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from foclip.errors import ImageError

#: Formats that are decoded. An allow-list: some of Pillow's others start programs (EPS) or fetch nothing but trouble.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"}
)

#: Largest picture that is decoded, in pixels (100 megapixels: 300 MB as 8-bit RGB).
MAX_PIXELS = 100_000_000
#: Largest ratio of the sides: beyond it, resizing the short side blows up the long one.
MAX_ASPECT = 500


def read(path: str | Path) -> Image.Image:
    """Read a picture file as an upright 8-bit RGB picture.

    EXIF orientation is applied, transparency is laid over white, CMYK, palette
    and 16-bit pictures are converted, and of an animation the first frame is taken.

    Raises:
        ImageError: Not a picture, truncated, larger than `MAX_PIXELS`, or unreadable.
    """
    return _read(Path(path), Path(path))


def decode(content: bytes, name: str) -> Image.Image:
    """The same for a picture that is not a file of its own but lies in a tar or a table.

    Args:
        content: The bytes of the picture file.
        name: What error messages call it.

    Raises:
        ImageError: As for `read`.
    """
    return _read(io.BytesIO(content), Path(name))


def _read(source: Path | io.BytesIO, path: Path) -> Image.Image:
    """What `read` and `decode` share; `path` is what messages call the source."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning; MAX_PIXELS decides
            with Image.open(source, formats=_formats()) as image:
                _check_size(path, image.size)
                image.seek(0)
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not a picture") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not a picture in a format that is read ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels") from None
    except PermissionError as error:
        raise ImageError(f"{path}: {error.strerror}") from None
    except Exception as error:  # decoders raise whatever a broken file makes them raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: broken picture ({reason})") from error


@cache
def _formats() -> tuple[str, ...]:
    """`FORMATS` that this build of Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: {width}×{height} is more than {MAX_PIXELS // 10**6} megapixels")
    if max(size) > MAX_ASPECT * min(size):
        raise ImageError(f"{path}: {width}×{height} is longer than {MAX_ASPECT}:1")


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of a loaded picture of any mode, transparency over white."""
    if image.mode.startswith("I"):  # 16-bit gray ("I;16…"), or 32-bit that holds 16
        levels = np.asarray(image, dtype=np.float64)
        if levels.max(initial=0) > 65535 or levels.min(initial=0) < 0:
            raise ValueError("32-bit integer samples")
        image = Image.fromarray((levels / 257).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point samples have no agreed range; save it as 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def find(paths: Sequence[str | Path]) -> list[Path]:
    """Files as given, and for a folder the pictures directly in it, sorted by name."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found.extend(sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()))
        else:
            found.append(path)
    return found


def write(image: Image.Image, path: str | Path) -> None:
    """Write a PNG atomically: the file is there whole or not at all.

    Raises:
        ImageError: The folder does not exist or cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        image.save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """A uint8 tensor (3, H, W) as an RGB picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def to_gray(image: Image.Image) -> Image.Image:
    """The picture in gray (ITU-R BT.601 luma, 8 bits) with three equal channels."""
    return image.convert("L").convert("RGB")
