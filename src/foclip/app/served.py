"""What the tabs share: the models, the bounds, the climbs, and the scan of the data set given with --data."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from tempfile import TemporaryDirectory

from foclip.app.climbing import Climbs
from foclip.app.limits import Limits
from foclip.detection import Detector
from foclip.models import registry
from foclip.models.scorer import Scorer
from foclip.outcome import Advance
from foclip.reports import scan as report
from foclip.scanning import Settings, detector_of, scan
from foclip.scanning.summary import summarise


@dataclass(frozen=True)
class Served:
    """What the page works with."""

    scorer: Scorer
    detector: Detector | None = None  # None where none comes with the encoder: nothing can be checked
    limits: Limits = field(default_factory=Limits)
    climbs: Climbs = field(default_factory=Climbs)
    scan: "DataScan | None" = None  # of the data set given with --data

    @classmethod
    def of(cls, scorer: Scorer, limits: Limits | None = None, data: Sequence[str] = ()) -> "Served":
        """With the detector that comes with the encoder, and a scan of `data`, if any, that is under way."""
        detector, _ = detector_of(scorer)
        return cls(scorer, detector, limits or Limits(), scan=DataScan(data, scorer, detector) if data else None)


@lru_cache(maxsize=8)
def scorer_of(score: str, encoder: str) -> Scorer:
    """A score over an embedded encoder, by their names; the last few are kept."""
    return registry.resolve(encoder, score)


class DataScan(threading.Thread):
    """Scans a data set while the page is up. `share` and `note` say how far it is; at the end `page` is its report."""

    def __init__(self, sources: Sequence[str], scorer: Scorer, detector: Detector | None) -> None:
        super().__init__(name="foclip-scan", daemon=True)
        self._sources, self._scorer, self._detector = sources, scorer, detector
        self.share, self.note = 0.0, "begins"
        self.page: str | None = None
        self.start()

    def run(self) -> None:
        """Scan into a folder that is gone afterwards. One process: the others belong to visitors."""
        try:
            with TemporaryDirectory(prefix="foclip-scan-") as out:
                folder = scan(
                    self._sources,
                    out,
                    model=self._scorer,
                    detector=self._detector,
                    settings=Settings(workers=1),
                    progress=self._progress,
                )
                self.page = report.page(folder, summarise(folder, self._scorer.info.scale))
        except Exception as error:  # the other tabs go on
            self.note = f"failed: {error}"

    def _progress(self, text: str, total: int) -> Advance:
        def advance(done: float, note: str = "") -> None:
            self.share, self.note = done / total, note

        return advance
