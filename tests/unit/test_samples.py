"""One way to read many pictures: in order, ahead on threads, within a bound of memory, failures in the stream."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from foclip.data import images, samples
from foclip.data.images import Admit
from foclip.data.samples import Sample, in_batches, prepare
from foclip.errors import ImageError
from foclip.outcome import Failure


def picture(number: int, width: int = 8, height: int = 6) -> Image.Image:
    return Image.new("RGB", (width, height), (number, 0, 0))


def red(image: Image.Image) -> int:
    return int(image.getpixel((0, 0))[0])  # type: ignore[index]


def given(item: tuple[Sample, int] | Failure) -> object:
    return item.source if isinstance(item, Failure) else (item[0].name, item[1])


def test_every_sample_gives_one_item_in_order(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "text.jpg").write_text("no picture")
    content = (tmp_path / "a.png").read_bytes()
    stream: list[Sample | Failure] = [
        Sample("text", tmp_path / "text.jpg"),
        Sample("file", tmp_path / "a.png"),
        Failure("caption", "no picture"),
        Sample("memory", picture(2)),
        Sample("flat", torch.zeros(3, 2)),
        Sample("row", partial(images.decode, content, "row")),
        Sample("broken row", partial(images.decode, content[:40], "broken row")),
    ]
    found = list(prepare(stream, red, ahead=2))
    assert list(map(given, found)) == [
        "text",
        ("file", 1),
        "caption",
        ("memory", 2),
        "flat",
        ("row", 1),
        "broken row",
    ]
    assert isinstance(found[0], Failure)
    assert "not a picture" in found[0].reason


def test_samples_are_read_a_bounded_number_ahead() -> None:
    drawn: list[int] = []

    def source() -> Iterator[Sample]:
        for number in range(100):
            drawn.append(number)
            yield Sample(str(number), picture(number))

    stream = prepare(source(), red, ahead=5)
    assert given(next(stream)) == ("0", 0)
    assert len(drawn) == 6
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert len(drawn) == 6


def test_closing_drops_what_waits_and_leaves_no_thread() -> None:
    before, done = threading.active_count(), list[int]()

    def slow(image: Image.Image) -> int:
        time.sleep(0.05)
        done.append(red(image))
        return done[-1]

    stream = prepare((Sample(str(n), picture(n)) for n in range(200)), slow, ahead=100, threads=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(done) <= 6
    assert threading.active_count() == before


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2 * 600, 2), (10**9, 8)])
def test_full_size_pictures_are_bounded_in_bytes(limit: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "BYTES_PER_PIXEL", 6)
    inside, highest, lock = 0, 0, threading.Lock()

    def make(image: Image.Image) -> int:
        nonlocal inside, highest
        with lock:
            inside += 1
            highest = max(highest, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1
        return red(image)

    stream = prepare([Sample(str(n), picture(n, 10, 10)) for n in range(24)], make, decoded_bytes=limit, threads=8)
    assert [given(item) for item in stream] == [(str(n), n) for n in range(24)]
    assert highest <= most


def test_errors_of_ours_end_the_stream() -> None:
    def broken(image: Image.Image) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(prepare([Sample("a", picture(1))], broken))


def test_a_source_may_say_why_it_cannot_be_read() -> None:
    def gone(admit: Admit) -> Image.Image:
        raise ImageError("row 7: gone")

    assert list(prepare([Sample("row 7", gone)], red)) == [Failure("row 7", "row 7: gone")]


def test_batches_keep_failures_at_their_place() -> None:
    asked: list[list[int]] = []

    def compute(batch: list[tuple[Sample, int]]) -> list[int]:
        asked.append([value for _, value in batch])
        return [10 * value for _, value in batch]

    items: list[tuple[Sample, int] | Failure] = [(Sample(str(n), picture(n)), n) for n in range(5)]
    items[1:1] = [Failure("a", "b")]
    items += [Failure("c", "d"), Failure("e", "f")]
    found = list(in_batches(items, 3, compute))
    assert found == [0, Failure("a", "b"), 10, 20, 30, 40, Failure("c", "d"), Failure("e", "f")]
    assert asked == [[0, 1], [2, 3, 4]]
