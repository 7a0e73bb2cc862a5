import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foclip import images
from foclip.errors import ImageError


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


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
    with pytest.raises(ImageError, match=r"nowhere.*a\.png"):
        images.write(gradient_picture, tmp_path / "nowhere" / "a.png")


def test_find_lists_pictures_of_a_folder(tmp_path: Path, gradient_picture: Image.Image) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in images.find([tmp_path])] == ["a.JPG", "b.png"]
    assert images.find([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]


def test_gray_is_bt601() -> None:
    red, green, blue = (images.to_gray(Image.new("RGB", (1, 1), c)).getpixel((0, 0)) for c in ("red", "lime", "blue"))
    assert (red, green, blue) == ((76,) * 3, (150,) * 3, (29,) * 3)
