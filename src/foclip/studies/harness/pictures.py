"""The settings and the pictures of a run of studies: photos that come with dependencies, or the user's own."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from foclip import files
from foclip.data import images
from foclip.data.samples import Sample, prepare
from foclip.demo import installed, photos
from foclip.detection.probes import GRAY_LEVELS
from foclip.errors import UsageError
from foclip.outcome import Failure

#: Further colour photos in the wheels of dependencies, after the four of the demo. The last three are scientific.
SHIPPED = (
    ("skimage", "data/motorcycle_left.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
)
#: Sides of a crop as a share of the photo's, and positions of the crops (0: left or top, 1: right or bottom).
CROP = 0.6
CORNERS = ((0.5, 0.5), (0, 0), (1, 1), (1, 0), (0, 1), (0.5, 0), (0.5, 1), (0, 0.5), (1, 0.5))

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a study."""

    name: str  # in tables
    photo: str  # the photo it comes from; crops of one photo are not independent
    image: Image.Image  # 8-bit RGB
    figures: dict[str, Any] = field(default_factory=dict)  # of a fooled one: its `Fidelity`, `steps` and `seconds`

    @cached_property
    def has_colour(self) -> bool:
        """Whether its channels differ by more than the detector's tolerance for gray."""
        levels = np.asarray(self.image, dtype=np.int16)
        return bool((levels.max(axis=-1) - levels.min(axis=-1)).max() > GRAY_LEVELS)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of size and pixels."""
        return hashlib.sha256(repr(self.image.size).encode() + self.image.tobytes()).hexdigest()


def shipped() -> list[Path]:
    """The photos in the wheels of dependencies."""
    return [*photos(), *(installed(package) / name for package, name in SHIPPED)]


def choose(folder: Path | None, count: int, seed: int) -> list[Path]:
    """At most `count` picture files: a random choice from a folder, or the first of the shipped ones."""
    if folder is None:
        return shipped()[:count]
    found = in_folder(folder, "images")
    return sorted(random.Random(seed).sample(found, min(count, len(found))))  # noqa: S311 (no secret)


def in_folder(folder: Path, argument: str) -> list[Path]:
    """The picture files of a folder, which must be one and hold some."""
    if not files.is_folder(folder):
        raise UsageError(f"{argument}: {folder} is no folder")
    if not (found := images.find([folder])):
        raise UsageError(f"{argument}: no pictures in {folder}")
    return found


def read(paths: Sequence[Path], side: int, failures: list[Failure]) -> list[Picture]:
    """Pictures of at most `side` pixels on their longest side. Files that cannot be read are added to `failures`."""
    return [Picture(name, name, image) for name, image in _made(paths, lambda photo: shrink(photo, side), failures)]


def crops(paths: Sequence[Path], each: int, side: int) -> list[Picture]:
    """`each` crops (at most 9) of every readable photo, cut at its own size and then scaled as in `read`."""

    def cut(photo: Image.Image) -> list[Image.Image]:
        width, height = (max(1, round(CROP * length)) for length in photo.size)
        parts = []
        for x, y in CORNERS[:each]:
            left, top = round(x * (photo.width - width)), round(y * (photo.height - height))
            parts.append(shrink(photo.crop((left, top, left + width, top + height)), side))
        return parts

    return [
        Picture(f"{name} crop {number}", name, part)
        for name, parts in _made(paths, cut, [])
        for number, part in enumerate(parts, start=1)
    ]


def _made(
    paths: Sequence[Path], make: Callable[[Image.Image], Made], failures: list[Failure]
) -> Iterator[tuple[str, Made]]:
    """The name of each photo, and what is made of it."""
    for item in prepare([Sample(path.name, path) for path in paths], make):
        if isinstance(item, Failure):
            failures.append(item)
        else:
            yield item[0].name, item[1]


def shrink(image: Image.Image, side: int) -> Image.Image:
    """The picture with at most `side` pixels on its longest side."""
    ratio = side / max(image.size)
    if ratio >= 1:
        return image
    width, height = (max(1, round(ratio * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class StudySettings:
    """Everything that a run of studies depends on, except its scores."""

    quick: bool = False  # fewer pictures and steps
    images: Path | None = None  # folder of the user's pictures; None for the photos that come with dependencies
    paintings: Path | None = None  # folder of real paintings, for `artworks`
    seed: int = 0  # of the random choice of pictures and prompts, and of the attacks

    @property
    def count(self) -> int:
        """Largest number of pictures."""
        return 8 if self.quick else 24

    @property
    def steps(self) -> int:
        """Steps of an attack."""
        return 100 if self.quick else 1000

    @property
    def brief_steps(self) -> int:
        """Steps of an attack in studies that fool each photo many times; more gain at most 0.01 (study `long`)."""
        return min(self.steps, 100)
