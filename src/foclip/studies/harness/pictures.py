"""The pictures of the studies: photos that come with dependencies, or the user's own."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from foclip import files
from foclip.data import images
from foclip.data.samples import Sample, prepare
from foclip.demo import photos
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


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a study.

    Attributes:
        name: Its name in tables.
        photo: The photo it comes from. Crops of one photo are not independent.
        image: 8-bit RGB.
    """

    name: str
    photo: str
    image: Image.Image

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
    paths = photos()
    for package, name in SHIPPED:
        spec = find_spec(package)
        assert spec is not None, f"{package} is a dependency of this package"
        assert spec.origin is not None
        paths.append(Path(spec.origin).parent / name)
    return paths


def choose(folder: Path | None, count: int, seed: int) -> list[Path]:
    """At most `count` picture files: a random choice from a folder, or the first of the shipped ones.

    Raises:
        UsageError: The folder holds no picture.
    """
    if folder is None:
        return shipped()[:count]
    found = in_folder(folder, "images")
    return sorted(random.Random(seed).sample(found, min(count, len(found))))  # noqa: S311 (no secret)


def in_folder(folder: Path, argument: str) -> list[Path]:
    """The picture files of a folder.

    Raises:
        UsageError: It is no folder, or holds no picture.
    """
    if not files.is_folder(folder):
        raise UsageError(f"{argument}: {folder} is no folder")
    if not (found := images.find([folder])):
        raise UsageError(f"{argument}: no pictures in {folder}")
    return found


def read(paths: Sequence[Path], side: int, failures: list[Failure]) -> list[Picture]:
    """Pictures of at most `side` pixels on their longest side. Files that cannot be read are added to `failures`."""
    found: list[Picture] = []
    for item in prepare(_samples(paths), lambda photo: shrink(photo, side)):
        if isinstance(item, Failure):
            failures.append(item)
        else:
            sample, image = item
            found.append(Picture(sample.name, sample.name, image))
    return found


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
        Picture(f"{item[0].name} crop {number}", item[0].name, part)
        for item in prepare(_samples(paths), cut)
        if not isinstance(item, Failure)
        for number, part in enumerate(item[1], start=1)
    ]


def _samples(paths: Sequence[Path]) -> list[Sample]:
    return [Sample(path.name, path) for path in paths]


def shrink(image: Image.Image, side: int) -> Image.Image:
    """The picture with at most `side` pixels on its longest side."""
    ratio = side / max(image.size)
    if ratio >= 1:
        return image
    width, height = (max(1, round(ratio * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
