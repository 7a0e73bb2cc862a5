"""A folder of hostile inputs, and some good ones, to call the command line in."""

import copy
import io
import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import foclip
from foclip.demo import photos
from foclip.models import embedded

#: A file's name whose every part is allowed, and one that no file system takes.
LONG, TOO_LONG = "l" * 250, "t" * 300
NOT_UTF8 = os.fsdecode(b"caf\xe9")
RED = "\x1b[31mred\x1b[0m\x07"
MARKUP = "<script>alert(1)</script>"
#: Inputs that are no picture, and what the line about each says.
UNREADABLE = {
    "cut.jpg": "cut.jpg",
    "cut.png": "cut.png",
    "cut.gif": "cut.gif",
    "cut.webp": "cut.webp",
    "cut.tif": "cut.tif",
    "zero.png": "zero.png",
    "page.jpg": "not a picture",
    "text.png": "not a picture",
    "bomb.png": "megapixels",
    "strip.png": "500:1",
    "header.png": "header.png",
    "float.tif": "float",
    "script.jpg": "not a picture",
    "drawing.png": "not a picture",
    "pickle.png": "not a picture",
    "html.txt": "not a picture",
    "/dev/null": "not a picture",
    "missing.png": "no such file",
    "missing/a.png": "no such file",
    "good.png/a.png": "good.png",
    "loop": "loop",
    "dangling": "no such file",
    "empty-folder": "no picture",
    f"{TOO_LONG}.png": "too long",
    f"{RED}.png": "red",
    f"bad-{NOT_UTF8}.png": "not a picture",
    "two\nlines.png": "lines.png",
    f"{MARKUP.replace('/', '')}.png": "script",
}
#: Inputs that are pictures, whatever they are called.
READABLE = [
    "one.png",
    "textbomb.png",
    "gray.png",
    "good.webp",
    "good [red] {0} %s.png",
    "./-dash.png",
    f"{LONG}.png",
    f"{NOT_UTF8}.png",
    f"good-{RED}.png",
]
#: Options that give no prompt, and what the line about them says.
WRONG_PROMPTS = [
    (("--prompt", ""), "empty"),
    (("--prompt", " \t "), "empty"),
    (("--prompt", "a cat", "--prompt", ""), "prompt 2 is empty"),
    (("--prompts", ""), "prompt"),
    (("--prompts", "imagenet:0"), "1 to 1000"),
    (("--prompts", "imagenet:-1"), "1 to 1000"),
    (("--prompts", "imagenet:1001"), "1 to 1000"),
    (("--prompts", "imagenet:"), "1 to 1000"),
    (("--prompts", "imagenet:ten"), "1 to 1000"),
    (("--prompts", "imagenet:²"), "1 to 1000"),
    (("--prompts", "imagenet:" + "9" * 5000), "1 to 1000"),
    (("--prompts", "nosuch.txt"), "no prompt set"),
    (("--prompts", TOO_LONG), "too long|no prompt set"),
    (("--prompts", RED), "no prompt set"),
    (("--prompts", "empty-folder"), "no prompt set|folder"),
    (("--prompts", "loop"), "no prompt set|links"),
    (("--prompts", "empty.txt"), "holds no prompt"),
    (("--prompts", "blank.txt"), "holds no prompt"),
    (("--prompts", "latin.txt"), "not UTF-8"),
    (("--prompts", "binary.txt"), "not UTF-8"),
    (("--prompts", "huge.txt"), "more than"),
]
#: Options that give prompts, if odd ones.
GOOD_PROMPTS = [
    ("--prompt", "word " * 2000),
    ("--prompt", MARKUP),
    ("--prompt", RED),
    ("--prompt", NOT_UTF8),
    ("--prompt", "\N{DOG FACE}" * 40),
    ("--prompt", TOO_LONG),
    ("--prompts", "bom.txt"),
    ("--prompts", "nul.txt"),
    ("--prompts", "html.txt"),
    ("--prompts", "escape.txt"),
    ("--prompts", "long.txt"),
]
#: Files that hold no captions.
WRONG_CAPTIONS = ["nosuch.csv", "empty-folder", "empty.txt", "binary.txt", "good.txt", "loop", TOO_LONG, ""]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def tiles(count: int, side: int = 64) -> list[Image.Image]:
    """Pieces of the demo's photos that share no pixel, each photo in turn."""
    found: list[Image.Image] = []
    opened = [Image.open(path).convert("RGB") for path in photos()]
    for number in range(count):
        photo = opened[number % len(opened)]
        place = number // len(opened)
        left, top = place % 4 * 100, place // 4 * 100
        found.append(photo.crop((left, top, left + 100, top + 100)).resize((side, side)))
    return found


def build(folder: Path) -> Path:
    """Fill a folder with everything that the tables name."""
    _pictures(folder)
    _prompts(folder)
    _detectors(folder)
    _weights(folder)
    (folder / "empty-folder").mkdir()
    (folder / "file").write_text("a file")
    gray = folder / "gray-photos"
    gray.mkdir()
    for number, tile in enumerate(tiles(4)):
        tile.convert("L").save(gray / f"{number}.png")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    return folder


def _pictures(folder: Path) -> None:
    good, other = tiles(2)
    noise = Image.effect_noise((200, 200), 60)
    bomb_text = _chunk(b"zTXt", b"a\x00\x00" + zlib.compress(b"\x00" * 80_000_000, 9))
    png = encoded(good, "PNG")
    bad = {
        "cut.jpg": encoded(noise, "JPEG")[:3000],
        "cut.png": encoded(noise, "PNG")[:3000],
        "cut.gif": encoded(noise, "GIF")[:3000],
        "cut.webp": encoded(noise, "WEBP")[:1000],
        "cut.tif": encoded(noise, "TIFF")[-3000:],
        "zero.png": b"",
        "page.jpg": b"<!doctype html><html><body>404</body></html>",
        "text.png": b"this is no picture\n",
        "bomb.png": png_header(100_000, 100_000),
        "strip.png": png_header(100_000, 1),
        "header.png": png_header(20, 20),
        "textbomb.png": png[:33] + bomb_text + png[33:],
        "float.tif": encoded(Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)), "TIFF"),
        "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "pickle.png": pickle.dumps(print),
        f"{RED}.png": b"no picture",
        f"bad-{NOT_UTF8}.png": b"no picture",
        "two\nlines.png": b"no picture",
        f"{MARKUP.replace('/', '')}.png": b"no picture",
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    for name in ("good.png", f"{LONG}.png", f"{NOT_UTF8}.png", f"good-{RED}.png", "good [red] {0} %s.png", "-dash.png"):
        other.save(folder / name)
    good.save(folder / "good.png")
    Image.new("RGB", (1, 1), "red").save(folder / "one.png")
    good.convert("L").save(folder / "gray.png")
    good.save(folder / "good.webp")
    for name in ("one", "two"):
        (folder / name).mkdir()
        (good if name == "one" else other).save(folder / name / f"{'s' * 251}.png")


def _prompts(folder: Path) -> None:
    files = {
        "good.txt": b"a cat\na dog\n",
        "bom.txt": b"\xef\xbb\xbfa cat\n",
        "empty.txt": b"",
        "blank.txt": b" \n\t\r\n\n",
        "latin.txt": b"caf\xe9\n",
        "binary.txt": bytes(range(256)) * 4,
        "nul.txt": b"a\x00cat\n",
        "html.txt": MARKUP.encode() + b"\n",
        "escape.txt": RED.encode() + b"\n",
        "long.txt": b"word " * 2000 + b"\n",
        "huge.txt": b"a cat\n" * 2_000_000,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _detectors(folder: Path) -> None:
    shipped = (Path(foclip.__file__).parent / "detection" / "shipped" / "mini.json").read_text()
    content = json.loads(shipped)
    other = shipped.replace(content["fingerprint"], "0" * 64)

    def changed(change: Callable[[Any], object]) -> str:
        new = copy.deepcopy(content)
        change(new)
        return json.dumps(new)

    files = {
        "cut": shipped[: len(shipped) // 2],
        "empty": "",
        "text": "no json",
        "list": "[]",
        "null": "null",
        "number": "9" * 5000,
        "deep": "[" * 100_000,
        "deep-inside": shipped.replace(
            '"provenance": {', '"provenance": {"x": ' + "[" * 50_000 + "]" * 50_000 + ",", 1
        ),
        "nan": shipped.replace(f'"fpr": {content["fpr"]}', '"fpr": NaN', 1),
        "huge": shipped.replace(f'"fpr": {content["fpr"]}', '"fpr": 1e999', 1),
        "digits": shipped.replace(f'"fpr": {content["fpr"]}', '"fpr": ' + "1" * 5000, 1),
        "format": changed(lambda new: new.update(format=999)),
        "types": changed(lambda new: new.update(fpr="small", rule=[], combined=3)),
        "clean": changed(lambda new: new["combined"].update(clean=[])),
        "unsorted": changed(lambda new: new["combined"].update(clean=[2.0, 1.0])),
        "inputs": changed(lambda new: new["combined"]["statistic"]["steps"][-1].update(inputs=["drop_nothing"])),
        "name": changed(lambda new: new.update(name=RED, fingerprint="0" * 64)),
        "other": other,
    }
    (folder / "detectors").mkdir()
    for name, text in files.items():
        assert text != shipped, name
        (folder / "detectors" / f"{name}.json").write_text(text)
    (folder / "detectors" / "binary.json").write_bytes(bytes(range(256)))


class Runs:
    """A pickle that would make a folder when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


def _weights(folder: Path) -> None:
    weights = folder / "weights"
    weights.mkdir()
    (weights / "text.pt").write_text("no weights")
    (weights / "zero.pt").write_bytes(b"")
    (weights / "page.safetensors").write_text("<html>404</html>")
    (weights / "length.safetensors").write_bytes(struct.pack("<Q", 2**62))
    torch.save({}, weights / "emptydict.pt")
    torch.save({"a": 1, "b": "text"}, weights / "dict.pt")
    torch.save(torch.zeros(3), weights / "tensor.pt")
    torch.save([1, 2], weights / "list.pt")
    torch.save({"visual.proj": torch.zeros(2, 2)}, weights / "few.pt")
    torch.save({"state_dict": Runs()}, weights / "code.pt")
    source = embedded.path("mini")
    for name in ("nan", "cut"):
        shutil.copytree(source, weights / name)
    (file,) = (weights / "nan").glob("*.safetensors")
    state = load_file(file)
    next(value for value in state.values() if value.is_floating_point()).fill_(float("nan"))
    save_file(state, file)
    (file,) = (weights / "cut").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:10_000])
