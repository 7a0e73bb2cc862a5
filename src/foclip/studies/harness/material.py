"""What a run of studies looks at: its settings and its pictures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from foclip.errors import UsageError
from foclip.outcome import Failure
from foclip.studies.harness import pictures
from foclip.studies.harness.pictures import Picture

#: Crops that thresholds are chosen on, at least, if there are photos enough.
EXAMPLES = 48


@dataclass(frozen=True)
class Settings:
    """What a run of studies depends on besides its scores.

    Attributes:
        quick: Fewer pictures and steps.
        images: Folder of the reader's pictures; None for the photos that ship with dependencies.
        paintings: Folder of real paintings, for `artworks`.
        seed: Seeds the draws of pictures and prompts, and the attacks.
    """

    quick: bool = False
    images: Path | None = None
    paintings: Path | None = None
    seed: int = 0

    @property
    def count(self) -> int:
        """Pictures at most."""
        return 8 if self.quick else 12

    @property
    def steps(self) -> int:
        """Updates per picture of an attack."""
        return 100 if self.quick else 1000


class StudyInputs:
    """The pictures of a run, each read once.

    Args:
        settings: Sizes, pictures, seed.
        side: Longest side of a picture, in pixels; larger ones are scaled down.

    Attributes:
        failures: Pictures that could not be read.
    """

    def __init__(self, settings: Settings, side: int) -> None:
        self.settings, self.side = settings, side
        self.failures: list[Failure] = []

    @cached_property
    def files(self) -> list[Path]:
        """The photos of this run."""
        return pictures.choose(self.settings.images, self.settings.count, self.settings.seed)

    @cached_property
    def pictures(self) -> list[Picture]:
        """The pictures that are fooled, whole.

        Raises:
            UsageError: Fewer than two of the files can be read, and one picture has no spread.
        """
        found = pictures.read(self.files, self.side, self.failures)
        if len(found) < 2:
            raise UsageError(f"images: {len(found)} readable pictures in {self.settings.images}; give at least 2")
        if sum(picture.has_colour for picture in found) < 2:
            raise UsageError("images: these pictures are gray; studies of colour need at least 2 that have some")
        return found

    @cached_property
    def examples(self) -> list[Picture]:
        """Enough pictures to choose thresholds on: crops of every photo, fewer of each the more photos there are."""
        each = min(len(pictures.CORNERS), -(-EXAMPLES // len(self.files)))
        return pictures.crops(self.files, each, self.side)

    @cached_property
    def paintings(self) -> list[Picture]:
        """The reader's paintings; none without a folder of them."""
        if self.settings.paintings is None:
            return []
        found = pictures.in_folder(self.settings.paintings, "paintings")
        return pictures.read(found, self.side, self.failures)
