"""What studies work with: scores, pictures, prompts, and work that is done once.

Whatever is computed here is kept in a store, by everything it depends on: two studies that need the
same fooled picture share it, and a run that was killed goes on where it was.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foclip.attacks import Attack, AttackState, AttackTask, FoCLIP, key, objective, run
from foclip.cache import Cache
from foclip.calibration.examples import PROBES
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.detection import TRANSFORMATIONS, Sensitivity, hardened_scores, measure
from foclip.models.scores import EmbeddingScore, Prompts, Score
from foclip.outcome import Progress, no_progress
from foclip.perceptual.fidelity import fidelity
from foclip.runs.executors import Run
from foclip.studies.harness.material import Settings, StudyInputs
from foclip.studies.harness.pictures import Picture

#: Fidelity budget of every attack that has one, dB.
BUDGET = 35.0
#: Pictures measured between two writes.
CHUNK = 16

Item = TypeVar("Item")

#: Prompts for all pictures, or a list for each; None for those of the lab.
PromptsOf = Sequence[str] | Sequence[Sequence[str]] | None


@dataclass(frozen=True, eq=False)
class FooledPicture(Picture):
    """A fooled picture, as read back from its file.

    Attributes:
        figures: Those of `foclip.perceptual.fidelity.Fidelity`, `steps` and `seconds`.
    """

    figures: dict[str, Any] = field(default_factory=dict)


class StudyContext(StudyInputs):
    """Pictures, prompts and scores, and what is found out about them.

    Args:
        scores: The one that is studied, and further ones for `transfer`.
        twins: The same score over encoders that are hard to fool, for `robust`.
        out: Folder of the run; finished work is kept in `out`/cells.
        settings: Sizes, pictures, seed.
        progress: Progress.
        run: What attacks pictures: here, or on a cluster (`foclip.runs.executors`).

    Attributes:
        score: The score that is studied.
        further: Further scores.
        twins: Scores over hardened twins.
        prompts: The prompts of all studies but `imagenet`: the score's own, or the ten artworks.
    """

    def __init__(
        self,
        scores: Sequence[EmbeddingScore],
        out: Path,
        settings: Settings,
        progress: Progress = no_progress,
        twins: Sequence[EmbeddingScore] = (),
        run: Run = run,
    ) -> None:
        self.score, *self.further = scores
        self.twins = tuple(twins)
        # Every pixel costs at every step, so pictures are at most twice the encoder's input, and at least 256.
        super().__init__(settings, side=max(256, 2 * max(self.score.encoder.image_size)))
        self.prompts: Prompts = self.score.prompts or ARTWORKS
        self.store = Cache(out / "cells")
        self._run = run
        self._track, self._study = progress, ""
        self._advance, self._part = no_progress("", 0), 0

    def begin(self, study: str) -> None:
        """What follows is the work of this study: its progress goes by its name."""
        self._study = study

    def each(self, parts: Sequence[Item]) -> Iterator[Item]:
        """The parts of a study one by one, with progress."""
        self._advance = self._track(self._study, len(parts))
        for self._part, part in enumerate(parts):
            yield part
            self._advance(self._part + 1)
        self._advance = no_progress("", 0)

    def default_attack(self) -> FoCLIP:
        """FoCLIP with its default weights within the budget; most studies look at its pictures."""
        return FoCLIP(
            objective=objective(temperature=self.score.temperature),
            steps=self.settings.steps,
            min_psnr=BUDGET,
            seed=self.settings.seed,
        )

    def fool(
        self,
        attack: Attack,
        originals: Sequence[Picture],
        prompts: PromptsOf = None,
        score: Score | None = None,
    ) -> list[FooledPicture]:
        """Fool pictures; each is fooled once, whoever asks, and read from disk from then on.

        Args:
            attack: The attack.
            originals: The pictures.
            prompts: For all of them, or a list for each; None for `self.prompts`.
            score: None for `self.score`.
        """
        chosen, wanted = score or self.score, self._each(prompts, len(originals))
        jobs = [
            AttackTask(images.to_tensor(p.image), own, place)
            for place, (p, own) in enumerate(zip(originals, wanted, strict=True))
        ]
        keys = [key(attack, chosen, job) for job in jobs]
        for name in keys:  # finished work counts if its picture is there too
            if not self.store.path(name, ".png").is_file():
                self.store.path(name).unlink(missing_ok=True)

        def compute(places: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            steps, finished = max(attack.steps, 1) * len(places), 0

            def on_step(lanes: Sequence[AttackState]) -> None:
                self._advance(self._part + (finished + sum(lane.step for lane in lanes)) / steps)

            for fooled in self._run(attack, chosen, (jobs[place] for place in places), on_step, self.store):
                finished += attack.steps
                self._advance(self._part + finished / steps)
                place = fooled.job.tag
                images.write(images.to_image(fooled.pixels), self.store.path(keys[place], ".png"))
                figures = vars(fidelity(fooled.pixels.cpu(), fooled.job.picture))
                yield place, figures | {"steps": fooled.steps, "seconds": round(fooled.seconds, 3)}

        found = self.store.fill(keys, compute)
        return [
            FooledPicture(original.name, original.photo, images.read(self.store.path(name, ".png")), figures)
            for original, name, figures in zip(originals, keys, found, strict=True)
        ]

    def scores(
        self, looked_at: Sequence[Picture], prompts: PromptsOf = None, score: Score | None = None
    ) -> npt.NDArray[np.float64]:
        """Figures of pictures with each prompt, (P, T), as `foclip score` gives them; prompts as in `fool`."""
        chosen, wanted = score or self.score, self._each(prompts, len(looked_at))

        def compute(places: list[int]) -> Iterator[tuple[int, list[float]]]:
            for place in places:
                yield place, chosen.read(looked_at[place].image, wanted[place])

        keys = [self._key("scores", p, own, chosen) for p, own in zip(looked_at, wanted, strict=True)]
        return np.array(self.store.fill(keys, compute)).reshape(len(looked_at), -1)

    def sensitivities(
        self,
        looked_at: Sequence[Picture],
        prompts: PromptsOf = None,
        score: EmbeddingScore | None = None,
        probes: Sequence[str] | None = None,
        draw: int | None = None,
    ) -> list[Sensitivity]:
        """Sensitivities of pictures.

        Args:
            looked_at: The pictures.
            prompts: For all of them, or a list for each; None for `self.prompts`.
            score: None for `self.score`.
            probes: Names of probes; None for every transformation, and what detectors look at besides.
            draw: With which number their amounts are drawn (`transformation`); None for the usual ones.
        """
        chosen, wanted = score or self.score, self._each(prompts, len(looked_at))
        twins = hardened_scores(chosen)
        if probes is None:
            probes = list(dict.fromkeys([*TRANSFORMATIONS, *PROBES, *twins]))

        def compute(places: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            for first in range(0, len(places), CHUNK):
                chunk = places[first : first + CHUNK]
                seen = [looked_at[place].image for place in chunk]
                found = measure(chosen, seen, [wanted[place] for place in chunk], probes, twins, guess=True, draw=draw)
                yield from zip(chunk, map(vars, found), strict=True)

        kind = f"sensitivity to {probes}" + ("" if draw is None else f", drawn {draw}")
        keys = [self._key(kind, p, own, chosen) for p, own in zip(looked_at, wanted, strict=True)]
        return [Sensitivity(**found) for found in self.store.fill(keys, compute)]

    def vector(
        self, kind: str, looked_at: Sequence[Picture], prompts: Sequence[str], compute: Callable[[], Tensor]
    ) -> Tensor:
        """A vector (D,) drawn from pictures, prompts and `self.score`, the same to the last bit once it is made.

        Other numbers of threads round sums otherwise, and what is fooled through such a vector is other work then.

        Args:
            kind: What it is.
            looked_at: The pictures.
            prompts: The prompts.
            compute: Makes it; float32.
        """
        digests = [picture.digest for picture in looked_at]
        name = Cache.key(kind, digests, tuple(prompts), self.score.fingerprint)
        (kept,) = self.store.fill([name], lambda places: ((place, compute().tolist()) for place in places))
        return torch.tensor(kept, device=self.score.device)

    def rows(
        self,
        looked_at: Sequence[Picture],
        prompts: PromptsOf = None,
        score: Score | None = None,
        **same: object,
    ) -> list[dict[str, Any]]:
        """One row of a table per picture: who it is, its scores, and for a fooled one its fidelity.

        Args:
            looked_at: Originals or fooled pictures.
            prompts: For all of them, or a list for each; None for `self.prompts`.
            score: None for `self.score`.
            same: Columns that are the same in all these rows.

        Returns:
            `same`, `picture`, `photo`, `score` (mean figure over the prompts), `lowest` (of a prompt),
            `spread` (standard deviation over the prompts), the figures of `Fidelity`, `steps`, `seconds`.
        """
        rows = []
        for picture, scores in zip(looked_at, self.scores(looked_at, prompts, score), strict=True):
            row = same | {"picture": picture.name, "photo": picture.photo}
            row |= {"score": scores.mean(), "lowest": scores.min(), "spread": scores.std()}
            rows.append(row | (picture.figures if isinstance(picture, FooledPicture) else {}))
        return rows

    def _each(self, prompts: PromptsOf, count: int) -> list[Prompts]:
        """The prompts of each of `count` pictures."""
        if prompts is None or isinstance(prompts[0], str):
            return [tuple(prompts or self.prompts)] * count  # type: ignore[arg-type]
        return [tuple(own) for own in prompts]

    @staticmethod
    def _key(kind: str, picture: Picture, prompts: Prompts, score: Score) -> str:
        return Cache.key(kind, picture.digest, prompts, score.fingerprint, score.device.type)
