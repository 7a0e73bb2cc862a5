"""The inputs of a run of studies: its settings and its pictures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from foclip.errors import UsageError
from foclip.outcome import Failure
from foclip.studies.harness import pictures
from foclip.studies.harness.pictures import Picture

#: Least number of crops that thresholds are chosen on, if there are enough photos.
EXAMPLES = 48


@dataclass(frozen=True)
class StudySettings:
    """Everything that a run of studies depends on, except its scores.

    Attributes:
        quick: Use fewer pictures and steps.
        images: Folder of the user's pictures; None for the photos that come with dependencies.
        paintings: Folder of real paintings, for `artworks`; None for none.
        seed: Seed of the random choice of pictures and prompts, and of the attacks.
    """

    quick: bool = False
    images: Path | None = None
    paintings: Path | None = None
    seed: int = 0

    @property
    def count(self) -> int:
        """Largest number of pictures."""
        return 8 if self.quick else 12

    @property
    def steps(self) -> int:
        """Steps of an attack."""
        return 100 if self.quick else 1000


class StudyInputs:
    """The pictures of a run. Each is read once.

    Args:
        settings: Sizes, pictures, seed.
        side: Longest side of a picture in pixels. Larger pictures are scaled down.

    Attributes:
        failures: Pictures that could not be read.
    """

    def __init__(self, settings: StudySettings, side: int) -> None:
        self.settings, self.side = settings, side
        self.failures: list[Failure] = []

    @cached_property
    def files(self) -> list[Path]:
        """The photos of this run."""
        return pictures.choose(self.settings.images, self.settings.count, self.settings.seed)

    @cached_property
    def pictures(self) -> list[Picture]:
        """The pictures to fool, uncropped.

        Raises:
            UsageError: Fewer than two files can be read, or fewer than two have colour.
        """
        found = pictures.read(self.files, self.side, self.failures)
        if len(found) < 2:
            raise UsageError(f"images: {len(found)} readable pictures in {self.settings.images}; give at least 2")
        if sum(picture.has_colour for picture in found) < 2:
            raise UsageError("images: these pictures are gray; studies of colour need at least 2 that have some")
        return found

    @cached_property
    def examples(self) -> list[Picture]:
        """Pictures to choose thresholds on: crops of every photo, at least `EXAMPLES` together if possible."""
        each = min(len(pictures.CORNERS), -(-EXAMPLES // len(self.files)))
        return pictures.crops(self.files, each, self.side)

    @cached_property
    def paintings(self) -> list[Picture]:
        """The user's paintings; an empty list if no folder was given."""
        if self.settings.paintings is None:
            return []
        found = pictures.in_folder(self.settings.paintings, "paintings")
        return pictures.read(found, self.side, self.failures)
