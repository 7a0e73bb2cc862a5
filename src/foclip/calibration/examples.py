"""What a calibration looks at: clean pictures in every state, and pictures fooled by every cheat, measured alike."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from foclip.data import images
from foclip.detection.probes import HardenedScores, Sensitivity, measure
from foclip.detection.scenarios import AFTERWARDS, CONDITIONS, LEAST_RISE, Change, Scenario, scenarios
from foclip.detection.transformations import View
from foclip.models.scores import EmbeddingScore, Prompts
from foclip.outcome import Advance, Failure, Progress, no_progress
from foclip.runs import fooling
from foclip.runs.results import Result

#: Looks of the combined detector in their order, after those through its twins; `benchmarks/probes.py` prints
#: what each adds.
PROBES = ("shrink96", "webp", "shrink90", "shift", "crop")
#: Pictures measured at a time.
CHUNK = 32
#: The state of a picture that nothing was done to.
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Example:
    """One picture of the calibration.

    Attributes:
        path: Its file.
        prompts: The prompts it was measured with.
        fooled: Whether it was fooled.
        held_out: Whether it belongs to the half that only measures.
        sensitivity: What was measured.
        cheat: Name of the cheat that made it; empty for a clean picture.
        state: What became of the file afterwards, or the state a clean picture came in.
        rise: What the score gained, in units of the score's `floor`; 0 for a clean picture.
        background: The kind of a clean picture of the background; empty for others.
    """

    path: Path
    prompts: Prompts
    fooled: bool
    held_out: bool
    sensitivity: Sensitivity
    cheat: str = ""
    state: str = AS_IT_IS
    rise: float = 0.0
    background: str = ""

    @property
    def kind(self) -> str:
        """The cheat, and whether its file was saved again; of a clean picture its state, or its kind of background."""
        if not self.fooled:
            return self.background or self.state
        return self.cheat if self.state == AS_IT_IS else f"{self.cheat}, saved again"

    @property
    def counts(self) -> bool:
        """A fooled picture that gained something, or a clean one as it is: what rates are about."""
        return self.rise >= LEAST_RISE if self.fooled else self.state == AS_IT_IS


def fool(
    victims: Sequence[Example],
    caption: Mapping[str, str],
    work: str | Path,
    score: EmbeddingScore,
    steps: int,
    fooled: int,
    progress: Progress,
) -> list[tuple[Scenario, bool, Result]]:
    """Fooled pictures: of each its cheat, whether its original is held out, and its figures."""
    views = tuple(View(probe, score.encoder.preprocess) for probe in PROBES)
    chosen = scenarios(steps, score.temperature, score.floor, views)
    # Both halves (every other picture) get every cheat, and a picture that is fooled again gets another one.
    plan: dict[str, list[int]] = {}
    for number in range(fooled):
        turn = number // 2 + number // len(victims)
        plan.setdefault(chosen[turn % len(chosen)].name, []).append(number % len(victims))
    report, done, results = progress("fooling", fooled), 0, []
    for cheat in chosen:
        places = list(dict.fromkeys(plan.get(cheat.name, [])))
        others = [(place + len(victims) // 2) % len(victims) for place in places]
        wanted: dict[str, list[Prompts]] = {
            "own": [(caption[str(victims[place].path)],) for place in places],
            "other": [(caption[str(victims[place].path)],) for place in others],
            "given": [victims[place].prompts for place in places],
        }

        def part(text: str, total: int, before: int = done, count: int = len(places)) -> Advance:
            return lambda steps_done, note="": report(before + count * steps_done / max(total, 1), note)

        if places:
            sources = [victims[place].path for place in places]
            made = fooling.fool(sources, wanted[cheat.wants], work, model=score, attack=cheat.attack, progress=part)
            # An earlier run may have named the same file otherwise.
            held = {os.path.realpath(victims[place].path): victims[place].held_out for place in places}
            results += [(cheat, held[os.path.realpath(result.source)], result) for result in made.results]
        done += len(places)
    return results


class Bench:
    """Measures pictures of a calibration, all with the same probes."""

    def __init__(self, score: EmbeddingScore, twins: HardenedScores, failures: list[Failure]) -> None:
        self.score, self.twins, self.failures = score, twins, failures
        self.probes = [*twins, *PROBES]
        self.all = list(dict.fromkeys([*self.probes, "gray"]))  # which the paper's rule looks at

    def guesses(self, entries: Sequence[tuple[Path, Prompts]]) -> dict[str, str]:
        """By the name of its file, the caption that each picture fits best of a thousand."""
        found = self._measured(entries, [_same] * len(entries), no_progress("", 0), ())
        return {str(entries[place][0]): str(sensitivity.guess) for place, sensitivity in found}

    def clean(self, entries: Sequence[tuple[Path, Prompts]], report: Advance) -> list[Example]:
        """Clean pictures as they are, gray ones left out; every other one is held out."""
        examples: list[Example] = []
        for place, sensitivity in self._measured(entries, [_same] * len(entries), report, self.all):
            if not sensitivity.gray_already:
                examples.append(Example(*entries[place], False, len(examples) % 2 == 1, sensitivity))
        return examples

    def conditions(self, examples: Sequence[Example], report: Advance) -> list[Example]:
        """The same pictures in all other states that clean pictures come in."""
        turns = [(example, state) for example in examples for state in CONDITIONS]
        entries = [(example.path, example.prompts) for example, _ in turns]
        changes = [CONDITIONS[state] for _, state in turns]
        return [
            replace(turns[place][0], sensitivity=sensitivity, state=turns[place][1])
            for place, sensitivity in self._measured(entries, changes, report, self.all)
        ]

    def fooled(self, cheated: Sequence[tuple[Scenario, bool, Result]], report: Advance) -> list[Example]:
        """AttackResult files as they are, and each once more after something became of it."""
        entries = [(Path(result.output), tuple(result.prompts)) for *_, result in cheated]
        states = [list(AFTERWARDS)[place // 2 % len(AFTERWARDS)] for place in range(len(entries))]
        found = []
        for before, names, changes in (
            (0, [AS_IT_IS] * len(entries), [_same] * len(entries)),
            (len(entries), states, [AFTERWARDS[state] for state in states]),
        ):
            for place, sensitivity in self._measured(entries, changes, report, self.all, before):
                cheat, held_out, result = cheated[place]
                rise = sensitivity.level - result.score_before / self.score.floor
                found.append(Example(*entries[place], True, held_out, sensitivity, cheat.name, names[place], rise))
        return found

    def _measured(
        self,
        entries: Sequence[tuple[Path, Prompts]],
        changes: Sequence[Change],
        report: Advance,
        probes: Sequence[str],
        before: int = 0,
    ) -> Iterator[tuple[int, Sensitivity]]:
        for first in range(0, len(entries), CHUNK):
            chunk = entries[first : first + CHUNK]
            readable = [
                (first + place, changes[first + place](picture))
                for place, picture in images.readable([path for path, _ in chunk], self.failures)
            ]
            asked = [entries[place][1] for place, _ in readable]
            pictures = [picture for _, picture in readable]
            found = measure(self.score, pictures, asked, probes, self.twins, guess=True)
            yield from zip((place for place, _ in readable), found, strict=True)
            report(before + first + len(chunk))


def _same(picture: Image.Image) -> Image.Image:
    return picture
