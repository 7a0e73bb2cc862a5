"""Pictures in and out: the only place that opens a picture file.

`read` takes what people have (rotated phone photos, CMYK scans, 16-bit PNGs, animations, transparent logos) and what
attackers send (bombs, truncated files, text named .jpg), `decoded` also pictures in memory, and
`foclip.data.samples.prepare` many of them.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from foclip import files
from foclip.errors import ImageError

#: Formats that are decoded. Pillow knows more, but some of them start programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000")
#: Suffixes of pictures; also of HEIC and JPEG XL, which are not decoded, so that none is passed over in silence.
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".heic", ".heif", ".jxl"}
)

#: Largest picture that is decoded, in pixels (300 MB as 8-bit RGB).
MAX_PIXELS = 100_000_000
#: Largest ratio of the sides: beyond it, resizing the short side blows up the long one.
MAX_ASPECT = 500
#: First bytes of a PNG, and the largest colour profile of one, in bytes.
PNG, MAX_PROFILE = b"\x89PNG\r\n\x1a\n", 64 * 2**20
#: A colour profile that changes no pixel by more than so many 8-bit levels counts as sRGB.
SAME_COLOUR = 2
#: TIFF's tags.
BITS_PER_SAMPLE, PHOTOMETRIC, PLANES = 258, 262, 284

#: A file, a PIL picture, or pixels: (3, H, W), of arrays also (H, W, 3); uint8 or float in [0, 1].
Source = str | Path | Image.Image | Tensor | np.ndarray
#: Called with width and height once they are known and before pixels are decoded; may wait until there is room.
Admit = Callable[[int, int], None]


def admit_any(width: int, height: int) -> None:
    """An `Admit` that never waits."""


def name(source: Source, number: int) -> str:
    """What results call a picture: its path, or its place among the others, from 1."""
    return str(source) if isinstance(source, str | Path) else f"picture {number}"


def decoded(source: Source, admit: Admit = admit_any) -> Image.Image:
    """The upright 8-bit RGB picture of a file, as `read` gives it, or of a picture in memory, with the same errors."""
    if isinstance(source, str | Path):
        return read(source, admit)
    if isinstance(source, Image.Image):
        _admitted("picture", source.size, admit)
        try:
            return _upright(source)
        except Exception as error:  # a file that is opened but not yet decoded may be damaged
            raise ImageError(f"picture: {_reason(error)}") from error
    try:
        # Arrays are copied, since torch warns of those that are read-only.
        pixels = torch.as_tensor(np.array(source) if isinstance(source, np.ndarray) else source).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(f"picture: {type(source).__name__} is neither a file, a PIL picture nor pixels") from error
    if isinstance(source, np.ndarray) and pixels.ndim == 3 and pixels.shape[0] != 3 == pixels.shape[2]:
        pixels = pixels.permute(2, 0, 1)
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.numel():
        raise ImageError(f"picture: shape {tuple(pixels.shape)} is not (3, H, W)")
    _admitted("picture", (pixels.shape[2], pixels.shape[1]), admit)
    if pixels.is_floating_point():
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN fails it too
            raise ImageError("picture: floating-point pixels must lie in [0, 1]; give 0 to 255 as uint8")
        pixels = (pixels * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise ImageError(f"picture: {pixels.dtype} is neither uint8 nor floating point")
    return to_image(pixels)


def read(path: str | Path, admit: Admit = admit_any, content: bytes | None = None) -> Image.Image:
    """Read a picture file as an upright 8-bit RGB picture.

    EXIF orientation and colour profiles (to sRGB) are applied, transparency is laid over white, CMYK, palette and
    16-bit pictures are converted, and of an animation the first frame is taken. `content` are the bytes of a file that
    lies in a tar or a table. An `ImageError` says why it cannot be read.
    """
    path, admitted = Path(path), list[tuple[int, int]]()

    def once(width: int, height: int) -> None:
        if not admitted:
            admit(width, height)
            admitted.append((width, height))

    try:
        return _read(path, once, content)
    except ImageError as error:
        with suppress(ImageError):
            if lean := _lean_png(path, content):
                return _read(path, once, *lean)
        raise error from None


def _read(path: Path, admit: Admit, content: bytes | None, profile: bytes | None = None) -> Image.Image:
    """`read`, for a picture whose colour profile was taken out of the file, if one is given."""
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=_formats()) as image:
            _admitted(path, image.size, admit)
            image.seek(0)
            return _upright(image, profile)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: a folder with no picture in it") from None
    except UnidentifiedImageError:
        if {".parquet", ".pq", ".tar", ".tgz", ".tbz2", ".txz", ".tzst"} & {each.lower() for each in path.suffixes}:
            raise ImageError(f"{path}: no picture; foclip scan reads tables and archives") from None
        raise ImageError(
            f"{path}: not a picture in a format that is read ({', '.join(FORMATS)}), or of a rare kind of samples"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels") from None
    except OSError as error:
        # The error of a decoder has no number, and its words may not say that the file is damaged.
        told = error.strerror or f"damaged or truncated ({_reason(error)})"
        raise ImageError(f"{path}: {told.lower()}") from None
    except Exception as error:  # decoders raise many types for damaged files
        raise ImageError(f"{path}: broken picture ({_reason(error)})") from error


def decode(content: bytes, name: str, admit: Admit = admit_any) -> Image.Image:
    """`read` of the bytes of a picture file; errors call it `name`."""
    return read(name, admit, content)


def _lean_png(path: Path, content: bytes | None) -> tuple[bytes, bytes | None] | None:
    """A PNG with no more than its pixels and which side is up, and its colour profile; None if it is no larger itself.

    Pillow refuses more than 1 MB of text or profile, and generators write whole workflows; and it refuses damaged
    chunks that no other program looks at.
    """
    try:
        content = path.read_bytes() if content is None and path.suffix.lower() in (".png", ".apng") else content or b""
    except (OSError, ValueError):  # half a surrogate pair is no name of a file
        return None
    kept, place, profile = [content[:8]], 8, None
    while content[:8] == PNG and place + 12 <= len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        chunk, place = content[place : place + size + 12], place + size + 12
        turned = name == b"eXIf" or (size < 2**20 and chunk[8:].startswith(b"XML:com.adobe.xmp\0\0"))
        if name == b"iCCP":
            with suppress(zlib.error):
                profile = zlib.decompressobj().decompress(chunk[8:-4].partition(b"\0")[2][1:], MAX_PROFILE)
        elif (
            name[:1].isupper() or name == b"tRNS" or (turned and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]))
        ):
            kept.append(chunk)  # the first letter of all that pixels need is a capital
    lean = b"".join([*kept, content[place:]])
    return (lean, profile) if len(lean) < len(content) else None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@cache
def _formats() -> tuple[str, ...]:
    Image.init()  # finds out what this build of Pillow knows
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _admitted(name: str | Path, size: tuple[int, int], admit: Admit) -> None:
    """Wait for room for a picture whose size is allowed."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width}×{height} is more than {MAX_PIXELS // 10**6} megapixels")
    if max(size) > MAX_ASPECT * min(size):
        raise ImageError(f"{name}: {width}×{height} is longer than {MAX_ASPECT}:1")
    admit(width, height)


def _upright(image: Image.Image, profile: object = None) -> Image.Image:
    """An opened picture of any mode as 8-bit sRGB, rotated as its EXIF data say, with transparency over white."""
    _wide_planes(image)
    image.load()
    profile, tags = profile or image.info.get("icc_profile"), getattr(image, "tag_v2", {})
    with suppress(SyntaxError, struct.error, ValueError, TypeError):  # damaged EXIF data are not the picture
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray ("I;16…"), of which a TIFF may use 12; or 32-bit that holds 8 or 16
        levels = np.asarray(image, dtype=np.float64)
        if levels.max(initial=0) > 65535 or levels.min(initial=0) < 0:
            raise ValueError("32-bit integer samples")
        white = 4095 if tags.get(BITS_PER_SAMPLE) == (12,) else 65535
        if image.mode == "I" and levels.max(initial=0) <= 255:
            white = 255
        if tags.get(PHOTOMETRIC) == 0 and image.mode != "I":  # MinIsWhite; Pillow inverts 8 bits only
            levels = white - levels
        scale = white / 255
        return Image.fromarray((levels / scale).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point samples have no agreed range; save it as 8 or 16 bits")
    if not image.has_transparency_data:
        return _to_srgb(image, profile)
    rgba = image.convert("RGBA")
    opaque = _to_srgb(rgba.convert("RGB"), profile)
    opaque.putalpha(rgba.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), opaque).convert("RGB")


def _wide_planes(image: Image.Image) -> None:
    """Have 16-bit planes of an uncompressed TIFF, one after the other, decoded as such: Pillow takes them for 8-bit."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.tag_v2.get(PLANES) != 2:
        return
    order, wide = ";16B" if image.tag_v2.prefix == b"MM" else ";16L", {*image.tag_v2.get(BITS_PER_SAMPLE, ())} == {16}
    for place, tile in enumerate(image.tile):
        if wide and tile.codec_name == "raw" and isinstance(tile.args, tuple):
            image.tile[place] = tile._replace(args=(f"{tile.args[0]}{order}", *tile.args[1:]))


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """An opaque picture in sRGB: encoders were trained on it, and results are written in it."""
    transform = _transform(profile, image.mode) if isinstance(profile, bytes) else None
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image if image.mode in ("L", "CMYK") else image.convert("RGB"), transform)
    assert converted is not None  # it is None only where it works in place
    return converted


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a colour profile to sRGB; None if it is sRGB already, is damaged, or does not fit the picture's mode."""
    mode = mode if mode in ("L", "CMYK") else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "RGB":  # a profile of sRGB itself changes pixels by rounding alone
            steps = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), axis=-1).reshape(1, -1, 3)
            moved = ImageCms.applyTransform(Image.fromarray(steps), transform)
            if np.abs(np.asarray(moved, dtype=int) - steps).max() <= SAME_COLOUR:
                return None
    except Exception:  # lcms raises many types for damaged profiles; colours then stay as they are
        return None
    return transform


def find(paths: Sequence[str | Path]) -> list[Path]:
    """Files as given; for a folder, the pictures in it and below, sorted by name, but for hidden files and folders.

    Links to folders are followed, but for those to a folder above them. A folder that cannot be read stands for itself.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        found.extend(sorted(_inside(path)) if files.is_folder(path) else [path])
    return found


def _inside(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    above = (*above, os.path.realpath(folder))
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        yield folder
        return
    for path in inside:
        if files.is_folder(path):
            if os.path.realpath(path) not in above:
                yield from _inside(path, above)
        elif path.suffix.lower() in SUFFIXES and (path.is_file() or not path.exists()):
            yield path


def write(image: Image.Image, path: str | Path) -> None:
    """Write a PNG: the file is there whole or not at all; an `OutputError` if it cannot be written."""
    with files.replacing(Path(path)) as partial:
        image.save(partial, format="PNG")


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """A uint8 tensor (3, H, W) as an RGB picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def to_gray(image: Image.Image) -> Image.Image:
    """The picture in gray (ITU-R BT.601 luma, 8 bits) with three equal channels."""
    return image.convert("L").convert("RGB")
