"""How well pictures serve as each other's reference: folders with fooled pictures among them (`benchmarks.universal`).

Of a folder, so many are drawn from those that are clean, so many from those that are fooled and whose score is higher
than their original's. For a thousand there are not as many photographs that judge: each stands beside its left and its
right part, three quarters as wide; and 200 are fooled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foclip.calibration.examples import AS_IT_IS
from foclip.data import images
from foclip.detection.peers import judge_peers
from foclip.detection.universal import Universals
from foclip.models.scores import CLIPScore
from training.universal import Picture, Row, fooled, look, own_folder, pays, photographs, places_of, seen

#: Shares of pictures that are fooled, and random folders that rates are means of.
SHARES, DRAWS = (0.0, 0.01, 0.05, 0.1, 0.2), 40
#: Sizes of folders, and how their pictures are fooled.
SMALL = (100, 200, 320)
SMALL_SCENARIOS = ("own caption, 40 dB", "own caption, 45 dB", "own caption, invisible", "ten artworks, 40 dB")
LARGE = 1000
LARGE_SCENARIOS = SMALL_SCENARIOS[:2]
#: Width of the parts of a photograph, as a share of its own; how many photographs are fooled for large folders.
PART, FOOLED = 0.75, 200


@dataclass(frozen=True)
class Folders:
    """What folders of some sizes are drawn from."""

    sizes: tuple[int, ...]
    clean: list[Row]
    fooled: dict[str, list[Row]]  # by scenario


def small(rows: Sequence[Row], originals: Mapping[int, Row]) -> Folders:
    """Folders of the photographs that judge, and of what was fooled of them."""

    def paying(scenario: str) -> list[Row]:
        some = [row for row in rows if row.scenario == scenario and row.state == AS_IT_IS]
        return [row for row in some if pays(row, originals)]

    return Folders(SMALL, list(originals.values()), {scenario: paying(scenario) for scenario in SMALL_SCENARIOS})


def large(score: CLIPScore, originals: Mapping[int, Row], data: Path, work: Path) -> Folders:
    """Folders of 1,000 pictures: photographs, parts of them, and many that are fooled."""
    photos, captions = photographs(data, "judge")
    order = places_of(photos)

    def pictures() -> Iterator[Picture]:
        for number in order:
            photo = images.read(photos[number])
            width = round(PART * photo.width)
            for state, left in (("left", 0), ("right", photo.width - width)):
                yield number, "", state, photo.crop((left, 0, left + width, photo.height)), (captions[number],)
        for scenario, rows in fooled(score, "judge", data, work, FOOLED, LARGE_SCENARIOS).items():
            for number, (file, _, _) in zip(order, rows, strict=False):
                yield number, scenario, AS_IT_IS, images.read(file), (captions[number],)

    rows = look(score, pictures(), own_folder(score, work) / "large.pickle")
    clean = [*originals.values(), *(row for row in rows if not row.scenario)]
    paying = {each: [row for row in rows if row.scenario == each and pays(row, originals)] for each in LARGE_SCENARIOS}
    return Folders((LARGE,), clean, paying)


def rates(folders: Sequence[Folders], weights: Universals) -> list[dict[str, Any]]:
    """Of folders of every size and share, what is called tampered, how much of that is clean, and what is caught."""
    headings = ("pictures", "fooled", "called", "false", "caught", "alarms/‰")
    print(f"   {'scenario':<26}{'prompts':<10}" + "".join(f"{heading:>10}" for heading in headings))
    found: list[dict[str, Any]] = []
    for some in folders:
        for scenario, fooled_ones in some.fooled.items():
            for prompts in ("artworks" if scenario.startswith("ten artworks") else "own", "none"):
                for size in some.sizes:
                    for share in SHARES:
                        if (count := round(size * share)) <= len(fooled_ones):
                            figures = _means(some.clean, fooled_ones, size - count, count, prompts, weights)
                            told = "".join(f"{each:>10.3f}" for each in figures.values())
                            print(f"   {scenario:<26}{prompts:<10}{size:>10}{count:>10}{told}", flush=True)
                            row = {"scenario": scenario, "prompts": prompts, "pictures": size, "fooled": count}
                            found.append(row | figures)
    return found


def _means(
    usual: Sequence[Row], fooled: Sequence[Row], clean: int, count: int, prompts: str, weights: Universals
) -> dict[str, float]:
    found = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        some = [usual[place] for place in rng.choice(len(usual), clean, replace=False)]
        some += [fooled[place] for place in rng.choice(len(fooled), count, replace=False)]
        verdicts = judge_peers([seen(row, prompts) for row in some], weights)
        called = np.array([verdict.verdict == "tampered" for verdict in verdicts])
        alarms, caught = called[:clean].sum(), called[clean:].mean() if count else np.nan
        found.append((called.sum(), alarms / max(1, called.sum()), caught, 1000 * alarms / clean))
    return dict(zip(("called", "false", "caught", "alarms per thousand"), np.mean(found, axis=0).tolist(), strict=True))
