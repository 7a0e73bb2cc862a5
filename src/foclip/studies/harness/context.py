"""The context of a study: scores, pictures, prompts, and results that are computed once.

Each result is cached under a key of everything it depends on. Two studies that need the same fooled picture
share it, and a run that was killed continues where it was.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foclip.attacks import AttackPlan, AttackState, AttackTask, FoCLIP, make_plan, objective, run
from foclip.cache import Cache
from foclip.calibration.examples import PROBES
from foclip.core.attacking import RunAttack, attack_with
from foclip.data import images
from foclip.data.prompts import ARTWORKS, Prompts
from foclip.data.samples import Sample
from foclip.detection import TRANSFORMATIONS, Prober, Sensitivity, hardened_scores
from foclip.errors import ImageError, UsageError
from foclip.models.batching import TargetCache, read_figures
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.outcome import Failure, Progress, no_progress
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import fidelity
from foclip.runs.folder import Run
from foclip.studies.harness.inputs import StudyInputs, StudySettings
from foclip.studies.harness.pictures import Picture

#: Fidelity budget in dB of every attack that has one.
BUDGET = 35.0
#: Folder of a run that holds its results.
CACHE = "cache"
#: Number of pictures measured between two writes.
CHUNK = 16

Item = TypeVar("Item")

#: Prompts for all pictures, or a list for each picture; None for the prompts of the context.
PromptsOf = Sequence[str] | Sequence[Sequence[str]] | None


@dataclass(frozen=True, eq=False)
class FooledPicture(Picture):
    """A fooled picture, read back from its file.

    Attributes:
        figures: Those of `foclip.perceptual.fidelity.Fidelity`, `steps` and `seconds`.
    """

    figures: dict[str, Any] = field(default_factory=dict)


class StudyContext(StudyInputs):
    """Pictures, prompts, scores, and functions that compute results and cache them.

    Every function takes an empty list of pictures as well, and then returns nothing.

    Args:
        scores: The score that is studied, then further scores for `transfer`.
        out: Folder of the run. Results are cached in `out`/cache.
        settings: Number of pictures and steps, folders, seed.
        progress: Called to show progress.
        hardened: The same score over hardened encoders, for `robust`.
        run: Runs attacks, on this machine or on a cluster (`foclip.runs.executors`).

    Raises:
        UsageError: A score has no embedding.

    Attributes:
        score: The score that is studied.
        further: Further scores.
        hardened: The score over hardened encoders.
        prompts: The prompts of all studies except `imagenet`: the default prompts of the score, or the ten artworks.
    """

    def __init__(
        self,
        scores: Sequence[EmbeddingScorer],
        out: Path,
        settings: StudySettings,
        progress: Progress = no_progress,
        hardened: Sequence[EmbeddingScorer] = (),
        run: RunAttack = run,
    ) -> None:
        if without := [score.info.name for score in scores if not isinstance(score, EmbeddingScorer)]:
            raise UsageError(f"score: studies compare embeddings, and {without[0]} has none; choose another score")
        self.score, *self.further = scores
        self.hardened = tuple(hardened)
        # Each pixel costs time at every step, so a picture is at most twice the encoder's input, or 256 pixels.
        super().__init__(settings, side=max(256, 2 * max(self.score.encoder.image_size)))
        self.prompts: Prompts = self.score.info.default_prompts or ARTWORKS
        self.cache = Run(out, CACHE).cache
        self._run = run
        self._progress, self._study = progress, ""
        self._advance, self._part = no_progress("", 0), 0

    def begin(self, study: str) -> None:
        """Show the following work under the name of this study."""
        self._study = study

    def with_progress(self, parts: Sequence[Item]) -> Iterator[Item]:
        """The parts of a study one by one, with progress."""
        self._advance = self._progress(self._study, len(parts))
        for self._part, part in enumerate(parts):
            yield part
            self._advance(self._part + 1)
        self._advance = no_progress("", 0)

    def default_attack(self) -> AttackPlan:
        """FoCLIP with its default weights, within the budget. Most studies examine its pictures."""
        return make_plan(
            FoCLIP,
            objective=objective(temperature=self.score.info.temperature),
            steps=self.settings.steps,
            budgets=Budget("psnr", BUDGET),
            seed=self.settings.seed,
        )

    def fool(
        self,
        attack: AttackPlan,
        originals: Sequence[Picture],
        prompts: PromptsOf = None,
        score: Scorer | None = None,
    ) -> list[FooledPicture]:
        """Fool pictures. Each is fooled once; later calls, also of other studies, read it from disk.

        Args:
            attack: The attack.
            originals: The pictures.
            prompts: For all of them, or a list for each; None for `self.prompts`.
            score: The score to raise; None for `self.score`.
        """
        chosen, wanted = score or self.score, self._each(prompts, len(originals))
        samples = [Sample(picture.name, picture.image, own) for picture, own in zip(originals, wanted, strict=True)]
        keys = [attack.key(chosen, AttackTask(images.to_tensor(s.read()), s.prompts)) for s in samples]
        for name in keys:  # finished work counts if its picture is there too
            if not self.cache.path(name, ".png").is_file():
                self.cache.path(name).unlink(missing_ok=True)

        def compute(places: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            steps, finished = max(attack.steps, 1) * len(places), 0
            place_of = {samples[place]: place for place in places}

            def on_step(states: Sequence[AttackState]) -> None:
                self._advance(self._part + (finished + sum(state.step for state in states)) / steps)

            for result in attack_with(attack, place_of, chosen, on_step=on_step, states=self.cache, run=self._run):
                if isinstance(result, Failure):
                    raise ImageError(result.reason)
                finished += attack.steps
                self._advance(self._part + finished / steps)
                place = place_of[result.sample]
                images.write(result.image, self.cache.path(keys[place], ".png"))
                figures = vars(fidelity(result.pixels.cpu(), result.original))
                yield place, figures | {"steps": result.steps, "seconds": round(result.seconds, 3)}

        found = self.cache.fill(keys, compute)
        return [
            FooledPicture(original.name, original.photo, images.read(self.cache.path(name, ".png")), figures)
            for original, name, figures in zip(originals, keys, found, strict=True)
        ]

    def scores(
        self, pictures: Sequence[Picture], prompts: PromptsOf = None, score: Scorer | None = None
    ) -> npt.NDArray[np.float64]:
        """Scores (P, T) of P pictures with T prompts each, as `foclip score` gives them; prompts as in `fool`.

        Where there are no pictures and no prompts, T is the number of `self.prompts`.
        """
        chosen, wanted = score or self.score, self._each(prompts, len(pictures))

        def compute(places: list[int]) -> Iterator[tuple[int, list[float]]]:
            targets = TargetCache(chosen)
            for first in range(0, len(places), CHUNK):
                chunk = places[first : first + CHUNK]
                seen = [chosen.preprocess.image(pictures[place].image) for place in chunk]
                found = read_figures(chosen, seen, [targets(wanted[place]) for place in chunk])
                yield from zip(chunk, found, strict=True)

        keys = [self._key("scores", p, own, chosen) for p, own in zip(pictures, wanted, strict=True)]
        count = len((wanted or self._each(prompts, 1))[0])
        return np.array(self.cache.fill(keys, compute), dtype=np.float64).reshape(len(pictures), count)

    def sensitivities(
        self,
        pictures: Sequence[Picture],
        prompts: PromptsOf = None,
        score: EmbeddingScorer | None = None,
        probes: Sequence[str] | None = None,
        draw: int | None = None,
    ) -> list[Sensitivity]:
        """How far scores and embeddings of pictures move under probes.

        Args:
            pictures: The pictures.
            prompts: For all of them, or a list for each; None for `self.prompts`.
            score: None for `self.score`.
            probes: Names of probes; None for every transformation and every probe of the detectors.
            draw: Seed of randomised probes (`transformation`); None for the usual amounts.
        """
        chosen, wanted = score or self.score, self._each(prompts, len(pictures))
        hardened = hardened_scores(chosen)
        if probes is None:
            probes = list(dict.fromkeys([*TRANSFORMATIONS, *PROBES, *hardened]))

        def compute(places: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            prober = Prober(chosen, hardened, draw)
            for first in range(0, len(places), CHUNK):
                chunk = places[first : first + CHUNK]
                views = [prober.preprocess(pictures[place].image) for place in chunk]
                found = prober.measure(views, [wanted[place] for place in chunk], probes, captions=True)
                yield from zip(chunk, map(asdict, found), strict=True)

        kind = f"sensitivity to {probes}" + ("" if draw is None else f", drawn {draw}")
        keys = [self._key(kind, p, own, chosen) for p, own in zip(pictures, wanted, strict=True)]
        return [Sensitivity(**found) for found in self.cache.fill(keys, compute)]

    def vector(
        self, kind: str, pictures: Sequence[Picture], prompts: Sequence[str], compute: Callable[[], Tensor]
    ) -> Tensor:
        """A vector (D,) computed from pictures, prompts and `self.score`, and cached to the last bit.

        Another number of threads rounds a sum differently. The keys of pictures that are fooled through the vector
        contain it, so without the cache a resumed run would fool them again.

        Args:
            kind: Name of the quantity.
            pictures: The pictures.
            prompts: The prompts.
            compute: Computes the vector, float32.
        """
        digests = [picture.digest for picture in pictures]
        name = Cache.key(kind, digests, tuple(prompts), self.score.fingerprint)
        (kept,) = self.cache.fill([name], lambda places: ((place, compute().tolist()) for place in places))
        return torch.tensor(kept, device=self.score.device)

    def rows(
        self,
        pictures: Sequence[Picture],
        prompts: PromptsOf = None,
        score: Scorer | None = None,
        **same: object,
    ) -> list[dict[str, Any]]:
        """One row of a table per picture: its name, its scores, and the fidelity of a fooled one.

        Args:
            pictures: Originals or fooled pictures.
            prompts: For all of them, or a list for each; None for `self.prompts`.
            score: None for `self.score`.
            same: Columns with one value for all rows.

        Returns:
            `same`, `picture`, `photo`, `score` (mean over the prompts), `lowest` (of all prompts), `spread` (standard
            deviation over the prompts), the figures of `Fidelity`, `steps`, `seconds`.
        """
        rows = []
        for picture, scores in zip(pictures, self.scores(pictures, prompts, score), strict=True):
            row = same | {"picture": picture.name, "photo": picture.photo}
            row |= {"score": scores.mean(), "lowest": scores.min(), "spread": scores.std()}
            rows.append(row | (picture.figures if isinstance(picture, FooledPicture) else {}))
        return rows

    def _each(self, prompts: PromptsOf, count: int) -> list[Prompts]:
        """The prompts of each of `count` pictures."""
        if not prompts or isinstance(prompts[0], str):
            return [tuple(prompts or self.prompts)] * count  # type: ignore[arg-type]
        return [tuple(own) for own in prompts]

    @staticmethod
    def _key(kind: str, picture: Picture, prompts: Prompts, score: Scorer) -> str:
        return Cache.key(kind, picture.digest, prompts, score.fingerprint, score.device.type)
