import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from zoo import png_header

from foclip.data import images
from foclip.errors import ImageError, OutputError


def close(a: Image.Image, b: Image.Image, levels: float) -> bool:
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    return a.size == b.size and float(np.abs(difference).mean()) <= levels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, gradient_picture: Image.Image, orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL transposition that stores the picture this way
    stored = gradient_picture.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else gradient_picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert close(images.read(tmp_path / "a.png"), gradient_picture, 0)


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (4, 4), (0, 128)).save(tmp_path / "half.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert images.read(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert images.read(tmp_path / "half.png").getpixel((0, 0)) == (127, 127, 127)
    assert images.read(tmp_path / "palette.png").getpixel((0, 0)) == (255, 255, 255)


def test_other_modes(tmp_path: Path, gradient_picture: Image.Image) -> None:
    gradient_picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert close(images.read(tmp_path / "cmyk.jpg"), gradient_picture, 4)
    gradient_picture.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.gif")
    assert close(images.read(tmp_path / "palette.gif"), gradient_picture, 6)
    deep = (np.asarray(gradient_picture.convert("L"), dtype=np.uint16)) * 257
    Image.fromarray(deep).save(tmp_path / "16bit.png")
    assert close(images.read(tmp_path / "16bit.png"), gradient_picture.convert("L").convert("RGB"), 0)
    Image.new("1", (3, 3), 1).save(tmp_path / "bits.png")
    assert images.read(tmp_path / "bits.png").getpixel((1, 1)) == (255, 255, 255)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert images.read(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "one.png")
    assert images.read(tmp_path / "one.png").size == (1, 1)


def test_refused_with_the_files_name(tmp_path: Path, gradient_picture: Image.Image) -> None:
    gradient_picture.resize((400, 300)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    bad = {
        "truncated.jpg": whole[: len(whole) // 2],
        "text.jpg": b"this is no picture",
        "empty.png": b"",
        "bomb.png": png_header(30_000, 30_000),
        "strip.png": png_header(100_000, 1),
        "header.png": png_header(20, 20),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    for name in [*bad, "missing.png", "folder.png"]:
        with pytest.raises(ImageError, match=name) as caught:
            images.read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_programs_are_not_started_for_postscript(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(ImageError, match="not a picture"):
        images.read(tmp_path / "a.jpg")


def test_write_is_exact_and_leaves_nothing_behind(tmp_path: Path, gradient_picture: Image.Image) -> None:
    path = tmp_path / "a.png"
    images.write(gradient_picture, path)
    assert torch.equal(images.to_tensor(images.read(path)), images.to_tensor(gradient_picture))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match=r"nowhere.*a\.png"):
        images.write(gradient_picture, tmp_path / "nowhere" / "a.png")


def test_find_lists_pictures_of_a_folder(tmp_path: Path, gradient_picture: Image.Image) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in images.find([tmp_path])] == ["a.JPG", "b.png"]
    assert images.find([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]


def test_gray_is_bt601() -> None:
    red, green, blue = (images.to_gray(Image.new("RGB", (1, 1), c)).getpixel((0, 0)) for c in ("red", "lime", "blue"))
    assert (red, green, blue) == ((76,) * 3, (150,) * 3, (29,) * 3)


def test_in_memory_as_from_a_file(tmp_path: Path, gradient_picture: Image.Image) -> None:
    """A picture means the same whether it is given as a file or decoded, with all that its mode and EXIF say."""
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient_picture.save(tmp_path / "turned.png", exif=exif)
    clear = gradient_picture.convert("RGBA")
    clear.putalpha(90)
    clear.save(tmp_path / "clear.png")
    Image.fromarray(np.asarray(gradient_picture.convert("L"), dtype=np.uint16) * 257).save(tmp_path / "16bit.png")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as opened:
            assert close(images.decoded(opened), images.read(path), 0), path
        assert close(images.decoded(path), images.read(path), 0)
        assert close(images.decoded(str(path)), images.read(path), 0)
    assert images.decoded(Image.open(tmp_path / "turned.png")).size == (30, 40)


def test_pixels_are_pictures(gradient_picture: Image.Image) -> None:
    pixels = images.to_tensor(gradient_picture)
    same = (
        pixels,
        pixels.numpy(),
        pixels.permute(1, 2, 0).numpy(),
        pixels / 255,
        (pixels / 255).double(),
        (pixels / 255).requires_grad_(True),
    )
    for source in same:
        assert close(images.decoded(source), gradient_picture, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.rand(3, 8, 8) * 255, r"must lie in \[0, 1\]"),
        (torch.full((3, 8, 8), 1.01), r"must lie in \[0, 1\]"),
        (torch.full((3, 8, 8), -0.01), r"must lie in \[0, 1\]"),
        (torch.full((3, 8, 8), math.nan), r"must lie in \[0, 1\]"),
        (np.full((3, 8, 8), np.inf), r"must lie in \[0, 1\]"),
        (torch.zeros(8, 8, 3), r"\(8, 8, 3\) is not \(3, H, W\)"),
        (torch.zeros(1, 8, 8), r"is not \(3, H, W\)"),
        (torch.zeros(3, 0, 8), r"is not \(3, H, W\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "neither uint8 nor floating point"),
        (torch.zeros(3, 1, 2000, dtype=torch.uint8), "2000×1 is longer than 500:1"),
        (Image.new("L", (20_000, 6_000)), "more than 100 megapixels"),
        (Image.new("RGB", (0, 5)), "picture: 0×5"),
        (Image.new("F", (4, 4)), "floating-point samples"),
        (Image.fromarray(np.full((4, 4), 10**6, dtype=np.int32)), "32-bit"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_picture_is_refused(wrong: images.Source, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        images.decoded(wrong)


def test_a_file_that_breaks_when_it_is_decoded_is_refused(tmp_path: Path, gradient_picture: Image.Image) -> None:
    gradient_picture.resize((400, 300)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:2000])
    with Image.open(tmp_path / "cut.jpg") as opened, pytest.raises(ImageError, match=r"^picture: .*truncated"):
        images.decoded(opened)


def test_the_warnings_of_the_process_stay_as_they_are(tmp_path: Path, gradient_picture: Image.Image) -> None:
    """Filters of warnings belong to the process: reading on two threads must not change them for all others."""
    gradient_picture.save(tmp_path / "a.png")
    before = list(warnings.filters)
    images.read(tmp_path / "a.png")
    assert warnings.filters == before


def test_pixels_are_decoded_once_they_are_admitted(tmp_path: Path, gradient_picture: Image.Image) -> None:
    gradient_picture.save(tmp_path / "a.png")
    sizes: list[tuple[int, int]] = []

    def admit(width: int, height: int) -> None:
        sizes.append((width, height))
        raise MemoryError  # before anything is decoded: a truncated file does not get as far as its end

    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    for source in (tmp_path / "a.png", tmp_path / "cut.png", gradient_picture, images.to_tensor(gradient_picture)):
        with pytest.raises((MemoryError, ImageError)):
            images.decoded(source, admit)
    assert sizes == [(40, 30)] * 4


def gray_tiff(path: Path, levels: np.ndarray, tag: int, bits: int, order: str = "<") -> Path:
    """An uncompressed TIFF of 16 or 12 bits of gray, whose photometric interpretation is `tag`; 0: minimum is white."""
    height, width = levels.shape
    if bits == 12:
        pairs = levels.reshape(-1, 2).astype(int)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
        data = packed.astype(np.uint8).tobytes()
    else:
        data = levels.astype(f"{order}u2").tobytes()
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: tag, 273: 8, 277: 1, 278: height, 279: len(data)}
    offset = 8 + len(data) + len(data) % 2
    fields = b"".join(struct.pack(f"{order}HHII", key, 4, 1, value) for key, value in entries.items())
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, offset)
    directory = struct.pack(f"{order}H", len(entries)) + fields + bytes(4)
    path.write_bytes(head + data + bytes(len(data) % 2) + directory)
    return path


@pytest.mark.parametrize(
    ("level", "tag", "bits", "order", "expected"),
    [
        (0x12FF, 0, 16, "<", 236),
        (0x12FF, 1, 16, "<", 19),
        (0x12FF, 1, 16, ">", 19),
        (0x0800, 1, 12, "<", 128),
    ],
)
def test_gray_of_a_tiff(tmp_path: Path, level: int, tag: int, bits: int, order: str, expected: int) -> None:
    path = gray_tiff(tmp_path / "a.tif", np.full((2, 4), level), tag, bits, order)
    assert images.read(path).getpixel((0, 0)) == (expected,) * 3


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "options",
    [{}, {"rowsperstrip": 2}, {"tile": (16, 16)}, {"compression": "zlib"}],
    ids=lambda options: [*options, ""][0],
)
def test_16_bits_of_colour_in_a_tiff(tmp_path: Path, planes: str, order: str, options: dict[str, Any]) -> None:
    """Planes one after the other are what tifffile writes of (3, H, W)."""
    levels = np.random.default_rng(0).integers(0, 256, (3, 7, 9)).astype(np.uint16)
    stored = levels * 257 if planes == "separate" else np.moveaxis(levels * 257, 0, -1)
    kind: dict[str, Any] = {"photometric": "rgb", "planarconfig": planes, "byteorder": order}
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stored), **kind, **options)
    with Image.open(tmp_path / "a.tif") as opened:
        for picture in (images.read(tmp_path / "a.tif"), images.decoded(opened)):
            assert np.array_equal(images.to_tensor(picture).numpy(), levels)


@pytest.mark.parametrize(
    ("content", "level"),
    [
        (b"P5\n2 2\n65535\n" + b"\x12\xff" * 4, 19),
        (b"P5\n2 2\n1023\n" + b"\x02\x00" * 4, 128),
        (b"P6\n2 2\n65535\n" + b"\x12\xff" * 12, 18),  # Pillow cuts colours to 8 bits, and rounds gray
    ],
)
def test_other_depths_of_a_pnm(content: bytes, level: int) -> None:
    assert abs(images.decode(content, "a").getpixel((0, 0))[0] - level) <= 1  # type: ignore[index]


def png_with(path: Path, *chunks: tuple[bytes, bytes], last: bool = False) -> Path:
    """A small PNG with more chunks after its header, or after its pixels."""
    Image.new("RGB", (4, 2), (10, 200, 30)).save(path)
    content = path.read_bytes()
    more = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    place = len(content) - 12 if last else 33
    path.write_bytes(content[:place] + more + content[place:])
    return path


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"workflow\0" + b"x" * 3_000_000),
        (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iTXt", b"workflow\0\0\0\0\0" + b"x" * 3_000_000),
        (b"iCCP", b"large\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iCCP", b"odd\0\7" + zlib.compress(b"x")),
        (b"eXIf", b"no EXIF data"),
        (b"pHYs", b"cut"),
        (b"gAMA", b""),
        (b"acTL", b"cut"),
        (b"caBX", b"x" * 3_000_000),  # provenance (C2PA)
        (b"tIME", b"damaged"),
        (b"eXIf", b"damaged"),
    ],
)
def test_what_is_not_the_picture_never_costs_the_picture(
    tmp_path: Path, chunk: tuple[bytes, bytes], last: bool
) -> None:
    path = png_with(tmp_path / "a.png", chunk, last=last)
    if chunk[1] == b"damaged":  # its checksum is that of something else
        path.write_bytes(path.read_bytes().replace(b"damaged", b"changed"))
    assert images.read(path).getpixel((0, 0)) == (10, 200, 30)
    assert images.decode(path.read_bytes(), "a").getpixel((0, 0)) == (10, 200, 30)


def test_many_texts_together_and_a_damaged_one(tmp_path: Path) -> None:
    text = (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 1_000_000))
    path = png_with(tmp_path / "a.png", *[text] * 70)
    assert images.read(path).size == (4, 2)
    path = png_with(tmp_path / "b.png", (b"tEXt", b"a\0text"))
    path.write_bytes(path.read_bytes().replace(b"a\0text", b"a\0tixt"))
    assert images.read(path).size == (4, 2)


def test_orientation_and_colours_of_a_png_with_much_text(tmp_path: Path) -> None:
    text = (b"tEXt", b"workflow\0" + b"x" * 3_000_000)
    xmp = (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    assert images.read(png_with(tmp_path / "a.png", text, xmp)).size == (2, 4)
    space = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = space.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
    small, large = ((b"iCCP", b"p\0\0" + zlib.compress(swapped + bytes(more))) for more in (0, 3_000_000))
    plain = images.read(png_with(tmp_path / "b.png", small))
    assert plain.getpixel((0, 0)) != (10, 200, 30)
    assert close(images.read(png_with(tmp_path / "c.png", small, text)), plain, 0)
    assert close(images.read(png_with(tmp_path / "d.png", large)), plain, 0)
    calls: list[tuple[int, int]] = []
    images.read(png_with(tmp_path / "d.png", text, last=True), lambda width, height: calls.append((width, height)))
    assert calls == [(4, 2)]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize(
    "more",
    [
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\xff\xff"},
        {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0" + b"x" * 60_000},
        {"icc_profile": b"not a profile" * 20},
        {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(400_000)},
        {"xmp": b"<x:xmpmeta>" + b"x" * 60_000},
    ],
    ids=["cut EXIF", "large EXIF", "damaged profile", "large profile", "large XMP"],
)
def test_what_is_beside_the_picture_in_other_formats(kind: str, more: dict[str, bytes]) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged EXIF data
        Image.new("RGB", (16, 8), (10, 200, 30)).save(content, kind, quality=95, **more)
        picture = images.decode(content.getvalue() + b"\0trailing", "a")
    assert picture.size == (16, 8)
    assert close(picture, Image.new("RGB", (16, 8), (10, 200, 30)), 4)
