"""The pictures of the studies: photos that ship with dependencies, or the reader's own."""

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
from foclip.demo import photos
from foclip.detection.probes import GRAY_LEVELS
from foclip.errors import UsageError
from foclip.outcome import Failure

#: Further colour photos in the wheels of dependencies, after the demo's four; the last three are scientific pictures.
SHIPPED = (
    ("skimage", "data/motorcycle_left.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
)
#: Sides of a crop as a share of the photo's, and where the crops lie (shares of the room that is left).
CROP = 0.6
CORNERS = ((0.5, 0.5), (0, 0), (1, 1), (1, 0), (0, 1), (0.5, 0), (0.5, 1), (0, 0.5), (1, 0.5))


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is studied.

    Attributes:
        name: What tables call it.
        photo: The photo it comes from; crops of one photo are no independent pictures.
        image: 8-bit RGB.
    """

    name: str
    photo: str
    image: Image.Image

    @cached_property
    def has_colour(self) -> bool:
        """Whether its channels differ by more than a detector takes for gray."""
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
    """At most `count` picture files: of a folder, drawn at random, or the shipped ones, in their order.

    Raises:
        UsageError: The folder holds no picture.
    """
    if folder is None:
        return shipped()[:count]
    found = in_folder(folder, "images")
    return sorted(random.Random(seed).sample(found, min(count, len(found))))  # noqa: S311 (a choice, not a secret)


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
    """Pictures with at most `side` pixels on their longest side; what cannot be read is added to `failures`."""
    return [
        Picture(paths[number].name, paths[number].name, shrink(photo, side))
        for number, photo in images.readable(paths, failures)
    ]


def crops(paths: Sequence[Path], each: int, side: int) -> list[Picture]:
    """`each` crops (at most 9) of every photo that can be read, cut at its own size and then shrunk as in `read`."""
    pictures = []
    for place, photo in images.readable(paths, []):
        name = paths[place].name
        width, height = (max(1, round(CROP * length)) for length in photo.size)
        for number, (x, y) in enumerate(CORNERS[:each], start=1):
            left, top = round(x * (photo.width - width)), round(y * (photo.height - height))
            cut = photo.crop((left, top, left + width, top + height))
            pictures.append(Picture(f"{name} crop {number}", name, shrink(cut, side)))
    return pictures


def shrink(image: Image.Image, side: int) -> Image.Image:
    """The picture with at most `side` pixels on its longest side."""
    ratio = side / max(image.size)
    if ratio >= 1:
        return image
    width, height = (max(1, round(ratio * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
