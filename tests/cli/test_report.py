"""The page of `foclip fool`: original and fooled in the same place, enlarged, in turns."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foclip.outcome import Failure
from foclip.reports import fooled, html
from foclip.reports.fooled import ENLARGED, PART, difference, most_changed

Run = Callable[..., tuple[int, str, str]]
#: An image of the page: what it holds, its width and height on the page, and its alternative text.
IMAGE = re.compile(r'<img src="data:image/webp;base64,([^"]+)" width="(\d+)" height="(\d+)" alt="(\w+)">')


@pytest.mark.parametrize("size", [(300, 260), (90, 50)])
def test_original_and_fooled_take_turns_enlarged(
    run: Run, tmp_path: Path, small_photos: list[Image.Image], size: tuple[int, int]
) -> None:
    original = small_photos[0].convert("RGB").resize(size)
    original.save(tmp_path / "photo.png")
    call = ("fool", tmp_path / "photo.png", "--prompt", "a dog", "--steps", 4, "--budget", "psnr:35")
    code, _, errors = run(*call, "--out", tmp_path / "out")
    assert code == 0, errors
    written = Image.open(tmp_path / "out" / "photo.png")
    page = (tmp_path / "out" / "report.html").read_text()
    (stack,) = re.findall(r'<label for="original1" class="stack">(.*?)</label>', page)
    box = most_changed(original, written, PART)
    assert box == (0, 0, *size) or (box[2] - box[0], box[3] - box[1]) == (PART, PART)
    shown = {}
    for content, width, height, text in IMAGE.findall(stack):
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert (int(width), int(height)) == (ENLARGED * picture.width, ENLARGED * picture.height)
        shown[text] = np.asarray(picture)
    assert list(shown) == ["original", "fooled"]  # the one on top comes and goes
    assert np.array_equal(shown["original"], np.asarray(original.crop(box)))
    assert np.array_equal(shown["fooled"], np.asarray(written.crop(box)))
    assert not np.array_equal(shown["original"], shown["fooled"])
    # They flicker unless the reader, or what the reader asks of all pages, says no; without a script.
    assert 'class="flicker" checked>' in page
    (moving,) = re.findall(r"@media \(prefers-reduced-motion: no-preference\) \{ (.*) \}\n", page)
    assert moving == ".flicker:checked ~ .looked .stack img + img { animation: flicker 1s step-end infinite; }"
    assert page.count("animation:") == 1
    assert "image-rendering: pixelated" in page
    assert "<script" not in page


def test_names_tell_pictures_apart_without_their_folders() -> None:
    paths = ["/home/me/a/cat.png", "/home/me/b/cat.png", "/home/me/a/dog.png", "/home/me/a/dog.png", "cat.png", ""]
    assert html.names(paths) == ["a/cat.png", "b/cat.png", "dog.png", "dog.png", "cat.png", ""]
    assert html.reasons([Failure("/home/me/a.png", "/home/me/a.png: no such file")]) == ["a.png: no such file"]


def test_the_report_of_many_sorts_without_a_script(
    run: Run, tmp_path: Path, small_photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fooled, "INDEX", 1)
    monkeypatch.setattr(fooled, "CLOSE", 1)
    for name, photo in zip("ba", small_photos, strict=False):
        photo.resize((64, 64)).save(tmp_path / f"{name}.png")
    call = ("fool", tmp_path / "b.png", tmp_path / "a.png", "--prompt", "a dog", "--steps", 1, "--min-psnr", 35)
    assert run(*call, "--out", tmp_path / "out")[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert [int(place) for place in re.findall(r"--name: (\d)", page)] == [1, 0]
    assert "body:has(#by-name:checked) .index tbody tr { order: var(--name); }" in page
    assert page.count('class="stack"') == 1
    assert str(tmp_path) not in page
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize(("most", "factor"), [(0, 127), (1, 127), (9, 14), (200, 1)])
def test_a_difference_is_amplified_as_far_as_it_fits(most: int, factor: int) -> None:
    generator = np.random.default_rng(0)
    before, change = generator.integers(0, 256, (2, 90, 110, 3))
    after = np.clip(before + change % (2 * most + 1) - most, 0, 255)
    before[0, 0, 0], after[0, 0, 0] = 0, 255  # one value of thousands does not count
    shown, times = difference(*(Image.fromarray(each.astype(np.uint8)) for each in (before, after)))
    assert times == factor
    assert np.array_equal(np.asarray(shown), np.clip(128 + times * (after - before), 0, 255))


def test_a_curve_fills_its_box_however_long_the_run() -> None:
    result: Any = SimpleNamespace(score_before=0.1, curve=[(step, 0.1 + step / 50_000) for step in range(50_001)])
    curve = fooled._curve(result)
    points = curve["line"].split()
    assert (points[0], points[-1]) == ("0.0,120.0", "300.0,0.0")
    assert len(points) < 310
    assert (curve["low"], curve["high"], curve["original"], curve["last"]) == (0.1, 1.1, 120, 50_000)
    flat: Any = SimpleNamespace(score_before=0.5, curve=[(0, 0.5)])
    assert fooled._curve(flat)["line"] == "0.0,0.0 0.0,0.0"
