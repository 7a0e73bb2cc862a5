"""What a calibration measures: clean pictures in every state, and pictures fooled in every attack scenario."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from foclip.data.prompts import Prompts
from foclip.data.samples import Sample, in_batches, prepare
from foclip.detection.features import Sensitivity
from foclip.detection.probes import HardenedScores, Prober, Views
from foclip.detection.scenarios import AFTERWARDS, CONDITIONS, LEAST_RISE, Change, Scenario, attack_scenarios
from foclip.detection.transformations import View
from foclip.models.scorer import EmbeddingScorer
from foclip.outcome import Advance, Failure, Progress, no_progress
from foclip.runs import fooling
from foclip.runs.folder import Result

T = TypeVar("T")

#: Probes of the combined detector in their order, after the hardened encoders; `benchmarks/probes.py` prints what each
#: adds.
PROBES = ("shrink96", "webp", "shrink90", "shift", "crop")
#: Pictures measured at a time.
CHUNK = 32
#: The state of a picture that nothing was done to.
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Example:
    """One picture of the calibration, and what was measured of it with its prompts."""

    path: Path
    prompts: Prompts
    fooled: bool
    held_out: bool  # it belongs to the half that only measures
    sensitivity: Sensitivity
    scenario: str = ""  # name of the attack scenario that made it
    state: str = AS_IT_IS  # what became of the file afterwards, or the state a clean picture came in
    rise: float = 0.0  # what the score gained, in units of the score's floor
    background: str = ""  # the kind of a clean picture of the background

    @property
    def kind(self) -> str:
        """The scenario, and whether the file was saved again; of a clean picture its state, or kind of background."""
        if not self.fooled:
            return self.background or self.state
        return self.scenario if self.state == AS_IT_IS else f"{self.scenario}, saved again"

    @property
    def counts(self) -> bool:
        """A fooled picture that gained something, or a clean one as it is: what rates are about."""
        return self.rise >= LEAST_RISE if self.fooled else self.state == AS_IT_IS


def fool(
    victims: Sequence[Example],
    caption: Mapping[str, str],
    work: str | Path,
    scorer: EmbeddingScorer,
    steps: int,
    fooled: int,
    progress: Progress,
) -> list[tuple[Scenario, bool, Result]]:
    """Fooled pictures: of each its scenario, whether its original is held out, and its figures."""
    views = tuple(View(probe, scorer.preprocess) for probe in PROBES)
    chosen = attack_scenarios(steps, scorer.info.temperature, scorer.info.floor, views)
    # Both halves (every other picture) get every scenario, and a picture that is fooled again gets another one.
    turns = [(number // 2 + number // len(victims)) % len(chosen) for number in range(fooled)]
    # An earlier run may have named the same file otherwise.
    held = {os.path.realpath(victim.path): victim.held_out for victim in victims}
    report, done, results = progress("fooling", fooled), 0, []
    for turn, scenario in enumerate(chosen):
        places = list(dict.fromkeys(number % len(victims) for number in range(fooled) if turns[number] == turn))
        away = len(victims) // 2 if scenario.target == "other" else 0
        own = [(caption[str(victims[(place + away) % len(victims)].path)],) for place in places]
        wanted = [victims[place].prompts for place in places] if scenario.target == "given" else own

        def part(text: str, total: int, before: int = done, count: int = len(places)) -> Advance:
            return lambda steps_done, note="": report(before + count * steps_done / max(total, 1), note)

        if places:
            sources = [victims[place].path for place in places]
            made = fooling.fool(sources, wanted, work, model=scorer, attack=scenario.attack, progress=part)
            results += [(scenario, held[os.path.realpath(result.source)], result) for result in made.results]
        done += len(places)
    return results


class Bench:
    """Measures pictures of a calibration with the same probes; those that cannot be read are added to `failures`."""

    def __init__(
        self,
        scorer: EmbeddingScorer,
        hardened: HardenedScores,
        failures: list[Failure],
        probes: Sequence[str] | None = None,  # None for those of a cascade, and gray, that of the paper's rule
    ) -> None:
        self.failures, self._floor, self._prober = failures, scorer.info.floor, Prober(scorer, hardened)
        self.probes = [*hardened, *PROBES]
        self._asked = [*self.probes, "gray"] if probes is None else probes

    def captions(self, samples: Sequence[Sample]) -> dict[str, str]:
        """By the name of its sample, the zero-shot caption of each picture."""
        found = self._measured([(sample, sample) for sample in samples], no_progress("", 0), ())
        return {sample.name: str(sensitivity.zero_shot_caption) for sample, sensitivity in found}

    def clean(self, samples: Sequence[Sample], report: Advance) -> list[Example]:
        """Clean pictures as they are, gray ones left out; every other one is held out."""
        examples: list[Example] = []
        for sample, sensitivity in self._measured([(sample, sample) for sample in samples], report):
            if not sensitivity.gray_already:
                held_out = len(examples) % 2 == 1
                examples.append(Example(Path(sample.name), sample.prompts, False, held_out, sensitivity))
        return examples

    def conditions(self, examples: Sequence[Example], report: Advance) -> list[Example]:
        """The same pictures in all other states that clean pictures come in."""
        return self._in_states([(example, state) for example in examples for state in CONDITIONS], report)

    def states_in_turn(self, examples: Sequence[Example], report: Advance) -> list[Example]:
        """The same pictures, each in one of these states in turn."""
        states = list(CONDITIONS)
        return self._in_states([(e, states[place % len(states)]) for place, e in enumerate(examples)], report)

    def _in_states(self, wanted: Sequence[tuple[Example, str]], report: Advance) -> list[Example]:
        turns = [
            (replace(example, state=state), _sample(example.path, example.prompts, CONDITIONS[state]))
            for example, state in wanted
        ]
        return [replace(example, sensitivity=found) for example, found in self._measured(turns, report)]

    def fooled(self, attacked: Sequence[tuple[Scenario, bool, Result]], report: Advance) -> list[Example]:
        """Fooled files as they are, and each once more after something became of it."""
        afterwards = [list(AFTERWARDS)[place // 2 % len(AFTERWARDS)] for place in range(len(attacked))]
        turns = [
            ((state, *each), _sample(Path(each[2].output), tuple(each[2].prompts), AFTERWARDS.get(state)))
            for states in ([AS_IT_IS] * len(attacked), afterwards)
            for state, each in zip(states, attacked, strict=True)
        ]
        examples = []
        for (state, scenario, held_out, result), found in self._measured(turns, report):
            rise = found.normalised_score - result.score_before / self._floor
            path, prompts = Path(result.output), tuple(result.prompts)
            examples.append(Example(path, prompts, True, held_out, found, scenario.name, state, rise))
        return examples

    def _measured(
        self, turns: Sequence[tuple[T, Sample]], report: Advance, probes: Sequence[str] | None = None
    ) -> Iterator[tuple[T, Sensitivity]]:
        """Sensitivities of samples, each with what it is for; only small pictures are kept."""
        asked = self._asked if probes is None else probes

        def measure(batch: list[tuple[Sample, Views]]) -> list[Sensitivity]:
            samples, views = zip(*batch, strict=True)
            return self._prober.measure(views, [sample.prompts for sample in samples], asked, captions=True)

        prepared = prepare((sample for _, sample in turns), self._prober.preprocess)
        for place, found in enumerate(in_batches(prepared, CHUNK, measure)):
            if isinstance(found, Failure):
                self.failures.append(found)
            else:
                yield turns[place][0], found
            if (place + 1) % CHUNK == 0 or place + 1 == len(turns):
                report(place + 1)


def _sample(path: Path, prompts: Prompts, change: Change | None) -> Sample:
    """A file, after a change."""
    sample = Sample(str(path), path, prompts)
    return replace(sample, image=lambda admit: change(sample.read(admit))) if change else sample
