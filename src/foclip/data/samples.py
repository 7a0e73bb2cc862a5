"""Samples: pictures with their prompts, from what a caller gives to what a model sees.

`collect_samples` turns files, folders and pictures in memory into samples. `prepare` decodes them ahead on threads and
hands over what the caller makes of each picture, usually the small picture that a model sees.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Condition
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from foclip import files
from foclip.data import captions as caption_files
from foclip.data import images
from foclip.data import prompts as prompt_sets
from foclip.data.images import Admit, Source
from foclip.data.prompts import Prompts, as_prompts
from foclip.errors import ImageError, UsageError
from foclip.machine import cores
from foclip.outcome import Failure, Outcome

T = TypeVar("T")
R = TypeVar("R")

#: Prompts for all pictures, the name of a prompt set, or one list of prompts per picture.
PromptsOf = str | Sequence[str] | Sequence[Sequence[str]] | None

#: Prepared samples that may wait for the consumer.
AHEAD = 64
#: Bytes of full-size pictures that may be decoded at the same time. One picture is always allowed.
DECODED_BYTES = 512 * 2**20
#: Bytes per pixel of a picture while it is decoded and resized: RGB, and one copy of it.
BYTES_PER_PIXEL = 6


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture and its prompts.

    The picture is a file, a PIL picture, or pixels (3, H, W), uint8 or float in [0, 1]; or a function that reads it
    when it is its turn, such as ``partial(images.decode, content, name)``. Results and failures call it `name`.
    """

    name: str
    image: Source | Callable[[Admit], Image.Image]
    prompts: Prompts = ()

    def read(self, admit: Admit = images.admit_any) -> Image.Image:
        """The upright 8-bit RGB picture, as `foclip.data.images.decoded` gives it."""
        return self.image(admit) if callable(self.image) else images.decoded(self.image, admit)


def collect_samples(
    pictures: Source | Sequence[Source],  # one or several; a folder stands for the pictures in it
    prompts: PromptsOf = None,  # for all of them, or one list per picture
    captions: str | Path | None = None,  # instead of prompts, a file of captions or "sidecar" (`foclip.data.captions`)
    *,
    default: Prompts = (),  # the prompts when neither is given; empty if there are none
    optional: bool = False,  # there may be no prompts at all
    exclude: Path | None = None,  # a folder of results, left out where it lies in one of the folders of pictures
) -> Outcome[Sample]:
    """Samples in the order of the pictures; pictures without a caption, and captions without a picture, are failures.

    A `UsageError` says that there is no picture, that both prompts and captions are given, or that lists differ in
    length; a `PromptError` that prompts or captions are unusable.
    """
    sources, failures = _sources(pictures, exclude), list[Failure]()
    prompt_sets.require(prompts is not None, captions is not None, not default and not optional)
    if captions is not None:
        found, failures = caption_files.captions_of(sources, captions)
        sources, each = [sources[number] for number in found], [tuple(own) for own in found.values()]
    else:
        each = _prompts_of_each(prompts, default, len(sources))
    named = (images.name(source, number) for number, source in enumerate(sources, start=1))
    return Outcome([Sample(*of_one) for of_one in zip(named, sources, each, strict=True)], failures)


def _sources(pictures: Source | Sequence[Source], exclude: Path | None) -> list[Source]:
    if isinstance(pictures, Tensor | np.ndarray):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    given = [pictures] if isinstance(pictures, str | Path | Image.Image) else list(pictures)
    sources: list[Source] = []
    for source in given:
        if not isinstance(source, str | Path):
            sources.append(source)
            continue
        found = images.find([source])
        if exclude is not None and _below(exclude, Path(source)):
            found = [path for path in found if not _below(path, exclude)]
        sources += found or [source]  # a folder without pictures stays, to be listed as what it is
    if all(isinstance(source, str | Path) and files.is_folder(Path(source)) for source in sources):
        raise UsageError(f"pictures: no pictures in {', '.join(map(str, given)) or 'an empty list'}")
    return sources


def _below(path: Path, folder: Path) -> bool:
    # realpath, since resolve() raises where links go round in circles
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _prompts_of_each(prompts: PromptsOf, default: Prompts, count: int) -> list[Prompts]:
    if prompts is None:
        return [default] * count
    if isinstance(prompts, str):
        return [tuple(prompt_sets.resolve(prompts))] * count
    if all(isinstance(prompt, str) for prompt in prompts):
        return [tuple(prompt_sets.resolve(None, as_prompts([str(prompt) for prompt in prompts])))] * count
    if len(prompts) != count:
        raise UsageError(f"prompts: {len(prompts)} lists of prompts for {count} pictures")
    return [tuple(prompt_sets.resolve(None, as_prompts(own))) for own in prompts]


def prepare(
    samples: Iterable[Sample | Failure],  # read one by one, at most `ahead` of what is yielded
    make: Callable[[Image.Image], T],  # called on a thread; keep what it returns small: up to `ahead` of them wait
    *,
    ahead: int = AHEAD,
    decoded_bytes: int = DECODED_BYTES,
    threads: int | None = None,  # None for one per core
) -> Iterator[tuple[Sample, T] | Failure]:
    """Decode pictures ahead on threads, and yield each sample with what `make` makes of its picture, in order.

    A picture that cannot be read becomes a `Failure` at its place. Full-size pictures exist only while they are decoded
    and `make` works on them. Closing the iterator drops those that are not being decoded, and leaves no thread.
    """
    room = _Room(decoded_bytes)

    def work(sample: Sample) -> tuple[Sample, T] | Failure:
        held: list[int] = []

        def admit(width: int, height: int) -> None:
            held.append(room.take(BYTES_PER_PIXEL * width * height))

        try:
            return sample, make(sample.read(admit))
        except ImageError as error:
            return Failure(sample.name, str(error))
        finally:
            room.leave(sum(held))

    coming: deque[Future[tuple[Sample, T] | Failure] | Failure] = deque()
    rest = iter(samples)
    pool = ThreadPoolExecutor(threads or cores(), thread_name_prefix="foclip-decode")
    try:
        while True:
            for sample in islice(rest, ahead + 1 - len(coming)):
                coming.append(sample if isinstance(sample, Failure) else pool.submit(work, sample))
            if not coming:
                return
            first = coming.popleft()
            yield first if isinstance(first, Failure) else first.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_batches(
    prepared: Iterable[tuple[Sample, T] | Failure], size: int, compute: Callable[[list[tuple[Sample, T]]], Iterable[R]]
) -> Iterator[R | Failure]:
    """Compute results of what `prepare` yields, and yield them with the failures, in order.

    A batch has `size` samples, failures included; `compute` gives one result per sample of a batch, in its order.
    """
    items = iter(prepared)
    while batch := list(islice(items, size)):
        good = [item for item in batch if not isinstance(item, Failure)]
        results = iter(compute(good) if good else ())
        for item in batch:
            yield item if isinstance(item, Failure) else next(results)


class _Room:
    """Bytes that pictures may take together. A picture that is larger than all of it may come in alone."""

    def __init__(self, size: int) -> None:
        self._size, self._used, self._changed = size, 0, Condition()

    def take(self, count: int) -> int:
        """Wait until there is room for `count` bytes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + count <= self._size)
            self._used += count
        return count

    def leave(self, count: int) -> None:
        with self._changed:
            self._used -= count
            self._changed.notify_all()
