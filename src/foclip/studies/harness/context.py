"""The context of a study: scores, pictures, prompts, and results that are computed once.

Each result is cached under a key of everything it depends on: studies share it, and a killed run continues.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from foclip.attacks import Attack, AttackPlan, AttackState, AttackTask, FoCLIP, make_plan, objective, run
from foclip.cache import Cache
from foclip.calibration.examples import PROBES
from foclip.core.attacking import RunAttack, attack_with
from foclip.data import captions, images
from foclip.data.prompts import ARTWORKS, Prompts, imagenet
from foclip.data.samples import Sample
from foclip.detection import TRANSFORMATIONS, Prober, Sensitivity, hardened_scores
from foclip.errors import ImageError, UsageError
from foclip.models.batching import TargetCache, read_figures
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.outcome import Failure, Progress, no_progress
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import fidelity
from foclip.runs.folder import Run
from foclip.studies.harness import pictures as photos
from foclip.studies.harness.pictures import Picture, StudySettings
from foclip.studies.harness.statistics import Floats, Rows

#: Fidelity budget in dB of every attack that has one; and the folder of a run that holds its results.
BUDGET, CACHE = 35.0, "cache"
#: Number of pictures measured between two writes, least number of crops that thresholds are chosen on (if there are
#: enough photos), and number of captions that compete for a photo without a text file.
CHUNK, EXAMPLES, CANDIDATES = 16, 48, 1000

Item = TypeVar("Item")

#: Prompts for all pictures, or a list for each, or those of each by its name; None for the prompts of the context.
PromptsOf = Sequence[str] | Sequence[Sequence[str]] | Mapping[str, Prompts] | None


class StudyContext:
    """Pictures, prompts, scores, and functions that compute results and cache them.

    Every function takes an empty list of pictures as well, and then returns nothing. Where one takes prompts, they are
    `PromptsOf` the pictures; a score of None is `self.score`.

    Args:
        scores: The score that is studied (`score`), then `further` ones for `transfer`; they have an embedding, unless
            only studies run that need none (`Study.embeddings`).
        out: Folder of the run. Results are cached in `out`/cache.
        settings: Number of pictures and steps, folders, seed.
        progress: Called to show the progress of `study`.
        hardened: The same score over hardened encoders, for `robust`.
        run: Runs attacks, on this machine or on a cluster (`foclip.runs.fooling`).

    Attributes:
        failures: Pictures that could not be read.
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
        self.score, *self.further = scores
        # Each pixel costs time at every step, so a picture is at most twice the encoder's input, or 256 pixels.
        self.side = max(256, 2 * max(self.score.preprocess.size))
        self.hardened, self.settings = tuple(hardened), settings
        self.failures: list[Failure] = []
        self.prompts: Prompts = self.score.info.default_prompts or ARTWORKS
        self.cache = Run(out, CACHE).cache
        self._run, self._progress, self.study, self._part = run, progress, "", 0
        self._advance = no_progress("", 0)

    @cached_property
    def files(self) -> list[Path]:
        """The photos of this run."""
        return photos.choose(self.settings.images, self.settings.count, self.settings.seed)

    @cached_property
    def pictures(self) -> list[Picture]:
        """The pictures to fool, uncropped: at least two that can be read and have colour, else a `UsageError`."""
        found = photos.read(self.files, self.side, self.failures)
        if len(found) < 2:
            raise UsageError(f"images: {len(found)} readable pictures in {self.settings.images}; give at least 2")
        if sum(picture.has_colour for picture in found) < 2:
            raise UsageError("images: these pictures are gray; studies of colour need at least 2 that have some")
        return found

    @cached_property
    def examples(self) -> list[Picture]:
        """Pictures to choose thresholds on: crops of every photo, at least `EXAMPLES` together if possible."""
        each = min(len(photos.CORNERS), -(-EXAMPLES // len(self.files)))
        return photos.crops(self.files, each, self.side)

    @cached_property
    def paintings(self) -> list[Picture]:
        """The user's paintings; an empty list if no folder was given."""
        folder = self.settings.paintings
        return photos.read(photos.in_folder(folder, "paintings"), self.side, self.failures) if folder else []

    def with_progress(self, parts: Sequence[Item]) -> Iterator[Item]:
        """The parts of a study one by one, with progress."""
        self._advance = self._progress(self.study, len(parts))
        for self._part, part in enumerate(parts):
            yield part
            self._advance(self._part + 1)
        self._advance = no_progress("", 0)

    def default_attack(self, score: Scorer | None = None) -> AttackPlan:
        """FoCLIP with its default weights for a score, within the budget. Most studies examine its pictures."""
        return self.attack(FoCLIP, objective=objective(temperature=(score or self.score).info.temperature))

    def attack(self, method: type[Attack], **settings: Any) -> AttackPlan:
        """An attack within the budget, with the steps and the seed of this run; `settings` add to these, or replace."""
        usual = {"steps": self.settings.steps, "budgets": Budget("psnr", BUDGET), "seed": self.settings.seed}
        return make_plan(method, **(usual | settings))

    def fool(
        self, attack: AttackPlan, originals: Sequence[Picture], prompts: PromptsOf = None, score: Scorer | None = None
    ) -> list[Picture]:
        """Fool pictures, so that a score rises. Each is fooled once; later calls, also of other studies, read it."""
        chosen, wanted = score or self.score, self.prompts_of(originals, prompts)
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
                on_step([])
                place = place_of[result.sample]
                images.write(result.image, self.cache.path(keys[place], ".png"))
                figures = vars(fidelity(result.pixels.cpu(), result.original))
                yield place, figures | {"steps": result.steps, "seconds": round(result.seconds, 3)}

        found = self.cache.fill(keys, compute)
        return [
            Picture(original.name, original.photo, images.read(self.cache.path(name, ".png")), figures)
            for original, name, figures in zip(originals, keys, found, strict=True)
        ]

    def scores(self, pictures: Sequence[Picture], prompts: PromptsOf = None, score: Scorer | None = None) -> Floats:
        """Scores (P, T) of P pictures with T prompts each, as `foclip score` gives them.

        Where there are no pictures and no prompts, T is the number of `self.prompts`.
        """
        chosen, wanted = score or self.score, self.prompts_of(pictures, prompts)
        targets = TargetCache(chosen)

        def measure(places: list[int]) -> list[list[float]]:
            seen = [chosen.preprocess.image(pictures[place].image) for place in places]
            return read_figures(chosen, seen, [targets(wanted[place]) for place in places])

        found = self.measured("scores", pictures, wanted, chosen, measure)
        count = len(wanted[0] if wanted else prompts or self.prompts) or 1  # of a score without prompts
        return np.array(found, dtype=np.float64).reshape(len(pictures), count)

    def sensitivities(
        self,
        pictures: Sequence[Picture],
        prompts: PromptsOf = None,
        score: EmbeddingScorer | None = None,
        probes: Sequence[str] | None = None,
        draw: int | None = None,
    ) -> list[Sensitivity]:
        """How far scores and embeddings of pictures move under named probes, by default all that there are.

        `draw` is the seed of randomised probes (`transformation`); None for the usual amounts.
        """
        chosen, wanted = score or self.score, self.prompts_of(pictures, prompts)
        hardened = hardened_scores(chosen)
        probes = probes or list(dict.fromkeys([*TRANSFORMATIONS, *PROBES, *hardened]))
        prober = Prober(chosen, hardened, draw)

        def measure(places: list[int]) -> Iterator[dict[str, Any]]:
            views = [prober.preprocess(pictures[place].image) for place in places]
            return map(asdict, prober.measure(views, [wanted[place] for place in places], probes, captions=True))

        kind = f"sensitivities to {probes}" + ("" if draw is None else f", drawn {draw}")
        return [Sensitivity(**found) for found in self.measured(kind, pictures, wanted, chosen, measure)]

    def measured(
        self,
        kind: str,
        pictures: Sequence[Picture],
        prompts: Sequence[Prompts],
        score: Scorer,
        measure: Callable[[list[int]], Iterable[Any]],
    ) -> list[Any]:
        """What is measured of each picture: `measure` is given places in `pictures`, a few at a time."""

        def compute(places: list[int]) -> Iterator[tuple[int, Any]]:
            for first in range(0, len(places), CHUNK):
                chunk = places[first : first + CHUNK]
                yield from zip(chunk, measure(chunk), strict=True)

        by = score.fingerprint, score.device.type
        keys = [Cache.key(kind, picture.digest, own, *by) for picture, own in zip(pictures, prompts, strict=True)]
        return self.cache.fill(keys, compute)

    def vector(
        self, kind: str, pictures: Sequence[Picture], prompts: Sequence[str], compute: Callable[[], Tensor]
    ) -> Tensor:
        """A vector (D,), float32, of a kind, computed from pictures, prompts and `self.score`, and cached exactly.

        Another number of threads rounds a sum differently. The keys of pictures that are fooled through the vector
        contain it, so without the cache a resumed run would fool them again.
        """
        name = Cache.key(kind, [picture.digest for picture in pictures], tuple(prompts), self.score.fingerprint)
        (kept,) = self.cache.fill([name], lambda places: ((place, compute().tolist()) for place in places))
        return torch.tensor(kept, device=self.score.device)

    def best_captions(
        self, scores: Sequence[Scorer], pictures: Sequence[Picture] | None = None, paths: Sequence[Path] | None = None
    ) -> dict[str, Prompts]:
        """One caption for each picture, by the picture's name; pictures and paths of None are those of the context.

        It is the first line of `photo.txt` in the folder of `photo.jpg`. Without such a file it is the caption among
        `candidates` with the highest mean over `scores`.
        """
        paths = self.files if paths is None else paths
        pictures = self.pictures if pictures is None else pictures
        beside, _ = captions.captions_of(paths, captions.SIDECAR)
        best = {paths[place].name: tuple(texts[:1]) for place, texts in beside.items()}
        if without := [picture for picture in pictures if picture.name not in best]:
            wanted = candidates()
            figures = np.mean([self.scores(without, wanted, score) for score in scores], axis=0)
            places = figures.argmax(axis=1).tolist()
            best |= {picture.name: (wanted[place],) for picture, place in zip(without, places, strict=True)}
        return {picture.name: best[picture.name] for picture in pictures}

    def rows(
        self, pictures: Sequence[Picture], prompts: PromptsOf = None, score: Scorer | None = None, **same: object
    ) -> Rows:
        """One row of a table per picture, original or fooled; `same` are columns with one value for all rows.

        The others are `picture`, `photo`, `score` (mean over the prompts), `lowest` (of all prompts), `spread` (their
        standard deviation), and the figures of a fooled picture.
        """
        return [
            {**same, "picture": picture.name, "photo": picture.photo}
            | {"score": scores.mean(), "lowest": scores.min(), "spread": scores.std()}
            | picture.figures
            for picture, scores in zip(pictures, self.scores(pictures, prompts, score), strict=True)
        ]

    def prompts_of(self, pictures: Sequence[Picture], prompts: PromptsOf) -> list[Prompts]:
        """The prompts of each picture."""
        if isinstance(prompts, Mapping):
            return [prompts[picture.name] for picture in pictures]
        if not prompts or isinstance(prompts[0], str):
            return [tuple(prompts or self.prompts)] * len(pictures)  # type: ignore[arg-type]
        return [tuple(own) for own in prompts]


def candidates() -> list[str]:
    """Captions of ImageNet's classes, of which the best one is a photo's own."""
    return imagenet(CANDIDATES)
