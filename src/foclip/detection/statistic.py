"""What a detector needs of a statistic, be it the paper's rule or the cascade."""

from typing import ClassVar, Protocol

from foclip.detection.features import Sensitivity


class Statistic(Protocol):
    """One number per picture, larger for pictures that look fooled.

    Attributes:
        first_rows: Rows of a pass that takes the first probe. All pictures may take it, or only some.
        needs_colour: Whether it can tell nothing of a picture that is gray already.
        threshold: Value from which it calls a picture tampered by itself; None if only its p-value decides.
    """

    first_rows: ClassVar[int]
    needs_colour: ClassVar[bool]
    threshold: ClassVar[float | None]

    @property
    def probes(self) -> list[str]:
        """The probes, in the order in which they are taken."""

    def next_probe(self, measured: Sensitivity) -> str | None:
        """The probe that the picture needs next; None if it needs none."""

    def value(self, measured: Sensitivity) -> float:
        """The statistic of a picture with which all probes were taken that it needs."""

    def evidence(self, measured: Sensitivity) -> dict[str, float]:
        """What each probe that was taken adds to the suspicion; the largest told most."""
