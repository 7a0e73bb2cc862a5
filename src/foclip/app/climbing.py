"""Climbs: runs of `foclip.runs.fooling.fool` on one picture each, on threads, to watch and to stop."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from foclip.app.limits import Limits, Upload
from foclip.attacks import AttackPlan, AttackState
from foclip.data import images
from foclip.errors import FoclipError
from foclip.models.scorer import Scorer
from foclip.reports import html
from foclip.reports.fooled import FooledReport
from foclip.runs import fooling
from foclip.runs.folder import Result

#: Live pictures take at most this share of the time, and come at most so often, in seconds.
SHARE, EVERY = 0.03, 0.5


@dataclass(frozen=True)
class Shown:
    """A climb as it is now."""

    step: int
    scores: list[float]  # mean scores at steps 0, 1, …
    picture: str  # the picture as it would be written, small, as data URI


@dataclass(frozen=True)
class Climbed:
    """What a climb wrote."""

    result: Result
    png: bytes  # the file, as `foclip fool` writes it
    original: Image.Image
    report: str  # HTML


class Climb(threading.Thread):
    """Fools one picture. `shown` is what to show of it; at the end there is either `climbed` or `error`."""

    def __init__(
        self, upload: Upload, prompts: Sequence[str], scorer: Scorer, plan: AttackPlan, limits: Limits
    ) -> None:
        super().__init__(name="foclip-climb", daemon=True)
        self._upload, self._prompts, self._scorer, self.plan = upload, list(prompts), scorer, plan
        self._asked, self._until, self._next = threading.Event(), time.monotonic() + limits.seconds, 0.0
        self.changed = threading.Event()  # set whenever there is something new to show
        self.shown: Shown | None = None
        self.climbed: Climbed | None = None
        self.error: str | None = None

    @property
    def ending(self) -> bool:
        """Whether no further step is made: the picture is measured and written."""
        return self._asked.is_set() or (self.shown is not None and self.shown.step >= self.plan.steps)

    def stop(self) -> None:
        """End the climb with its next step; the best picture so far is kept."""
        self._asked.set()
        self.changed.set()

    def run(self) -> None:
        """Attack, write and measure in a folder that is gone afterwards."""
        try:
            with TemporaryDirectory(prefix="foclip-climb-") as folder:
                self.climbed = self._climb(Path(folder))
        except FoclipError as error:
            self.error = str(error)
        except Exception as error:  # a visitor must not wait for ever
            self.error = f"this did not work ({type(error).__name__})"
            raise
        finally:
            self.changed.set()

    def _climb(self, folder: Path) -> Climbed:
        picture, report = folder / self._upload.name, FooledReport()
        picture.write_bytes(self._upload.content)
        found = fooling.fool(
            picture,
            self._prompts or None,
            folder / "fooled",
            model=self._scorer,
            attack=self.plan,
            on_step=self._on_step,
            on_result=report.add,
        )
        for failure in found.failures:
            raise FoclipError(failure.reason.replace(f"{folder}/", ""))
        (result,) = found.results
        page = report.page(folder / "fooled", found.results)
        return Climbed(result, Path(result.output).read_bytes(), images.read(picture), page)

    def _on_step(self, states: Sequence[AttackState]) -> None:
        (state,), now = states, time.monotonic()
        if self._asked.is_set() or now > self._until:
            state.stop()
        if now >= self._next or state.step >= self.plan.steps:
            picture = html.picture(images.to_image(state.preview()))
            self.shown = Shown(state.step, state.scores[:], picture)
            self.changed.set()
            self._next = time.monotonic() + max(EVERY, (time.monotonic() - now) / SHARE)


class Climbs:
    """The climbs of all visitors, by their sessions: a visitor has one at a time."""

    def __init__(self) -> None:
        self._climbs: dict[str, Climb] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._climbs)

    def start(self, session: str, climb: Climb) -> Climb:
        """Start a climb; another one of the session is stopped."""
        self.stop(session)
        self._climbs[session] = climb
        climb.start()
        return climb

    def stop(self, session: str) -> None:
        """Stop the climb of a session, if there is one."""
        if climb := self._climbs.get(session):
            climb.stop()

    def end(self, session: str, climb: Climb) -> None:
        """Stop a climb, and forget it."""
        climb.stop()
        if self._climbs.get(session) is climb:
            del self._climbs[session]
