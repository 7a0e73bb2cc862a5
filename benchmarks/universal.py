"""How well the universal statistic works for an encoder that it was not fitted on.

    python -m benchmarks.universal mini mini-vit [--data ../shared/data] --work DIR

Each encoder is left out in turn: the statistic is fitted through the others, on one half of the photographs
(`training.universal`), and judges the other half, on which nothing was fitted. Writes docs/figures/universal.json: for
100 clean pictures and a bound of 2 %, false alarms on clean pictures in every state and what is caught of every
scenario; and for folders that are their own reference, the share of false discoveries. Fooled pictures and measurements
are kept in DIR.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import Table
from benchmarks.record import save
from foclip.calibration.examples import AS_IT_IS
from foclip.detection import Sensitivity
from foclip.detection.peers import FDR, judge_peers
from foclip.detection.universal import Reference, Universals
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from training.universal import FOOLED, STATES, Row, fit, measured, pays

#: Clean pictures of a reference, the bound, and the random references and folders that rates are means of.
CLEAN, BOUND, DRAWS = 100, 0.02, 5
#: Folders of so many pictures, shares of them that are fooled, and how.
FOLDERS, SHARES = (100, 200), (0.0, 0.01, 0.05, 0.1, 0.2)
IN_FOLDERS = ("own caption, 40 dB", "own caption, 45 dB", "own caption, invisible")


class Pictures:
    """What one encoder sees of the photographs that judge."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.originals = {row.number: row for row in rows if not row.scenario and row.state == AS_IT_IS}
        #: Photographs that were fooled, those that are a reference in other states too, and all others.
        numbers = list(self.originals)
        fooled, states = FOOLED["judge"], STATES["judge"]
        self.fooled, self.states, self.others = numbers[:fooled], numbers[fooled:states], numbers[states:]

    def reference(self, weights: Universals, chosen: Sequence[int], prompts: str) -> Reference:
        """Clean pictures as `foclip calibrate` keeps them, with prompts of one kind or without."""
        statistic = weights.without_prompts if prompts == "none" else weights.with_prompts
        odd = [row for row in self.rows if row.number in self.states and not row.scenario and row.state != AS_IT_IS]
        usual = [self.originals[number] for number in (*self.states, *chosen)]
        clean, states = ([statistic.features(seen(row, prompts)) for row in some] for some in (usual, odd))
        return Reference(statistic, clean, states)


def seen(row: Row, prompts: str) -> Sensitivity:
    """A picture with its own caption, the artworks, or without prompts ("none")."""
    found = row.artworks if prompts == "artworks" else row.own
    return found.without_prompts() if prompts == "none" else found


def with_clean_pictures(model: str, pictures: Pictures, weights: Universals, table: Table) -> None:
    """Rates with a reference of `CLEAN` pictures, and those of the state of clean pictures that is most suspicious."""
    rates: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        chosen = rng.choice(pictures.others, CLEAN - len(pictures.states), replace=False).tolist()
        parts = {each: pictures.reference(weights, chosen, each) for each in ("own", "artworks", "none")}
        kinds: dict[tuple[str, str], list[Row]] = {}
        for row in pictures.rows:
            if row.number not in (*pictures.states, *chosen) and (not row.scenario or pays(row, pictures.originals)):
                kinds.setdefault((row.scenario, row.state), []).append(row)
        for (scenario, state), some in kinds.items():
            with_prompts = "artworks" if scenario.startswith("ten artworks") else "own"
            shares = [
                float(np.mean([parts[prompts].ranked(seen(row, prompts)).p_value <= BOUND for row in some]))
                for prompts in (with_prompts, "none")
            ]
            rates.setdefault((scenario, state), []).append((len(some), shares[0], shares[1]))
    means = {kind: np.mean(each, axis=0) for kind, each in rates.items()}
    odd = [each for (scenario, state), each in means.items() if not scenario and state != AS_IT_IS]
    means["", "most suspicious state"] = np.max(odd, axis=0)
    for (scenario, state), (count, caught, bare) in means.items():
        kind = {"encoder": model, "scenario": scenario or "clean", "state": state}
        table.add({**kind, "pictures": round(float(count)), "with prompts": float(caught), "without": float(bare)})


def without(model: str, pictures: Pictures, weights: Universals, table: Table) -> None:
    """Folders that are their own reference."""
    usual = [pictures.originals[number] for number in (*pictures.states, *pictures.others)]
    for scenario in IN_FOLDERS:
        some = [row for row in pictures.rows if row.scenario == scenario and row.state == AS_IT_IS]
        fooled = [row for row in some if pays(row, pictures.originals)]
        for prompts in ("own", "none"):
            for size in FOLDERS:
                for share in SHARES:
                    if (count := round(size * share)) <= len(fooled):
                        kind = {"encoder": model, "scenario": scenario, "prompts": prompts}
                        found = _folders(usual, fooled, size - count, count, prompts, weights)
                        table.add({**kind, "pictures": size, "fooled": count, **found})


def _folders(
    usual: Sequence[Row], fooled: Sequence[Row], clean: int, count: int, prompts: str, weights: Universals
) -> dict[str, object]:
    found = []
    for draw in range(2 * DRAWS):
        rng = np.random.default_rng(draw)
        some = [usual[place] for place in rng.choice(len(usual), clean, replace=False)]
        some += [fooled[place] for place in rng.choice(len(fooled), count, replace=False)]
        verdicts = judge_peers([seen(row, prompts) for row in some], weights)
        called = np.array([verdict.verdict == "tampered" for verdict in verdicts])
        alarms, caught = called[:clean].sum(), called[clean:].mean() if count else np.nan
        found.append((called.sum(), alarms / max(1, called.sum()), caught, 1000 * alarms / clean))
    total, false, caught, rate = np.mean(found, axis=0)
    figures = {"called": total, "false": false, "caught": caught, "alarms per thousand": rate}
    return {name: float(value) for name, value in figures.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--judge", nargs="+", help="encoders that are left out in turn; default: all")
    choice = parser.parse_args()
    scores = {model: CLIPScore(load_encoder(model)) for model in choice.models}
    fitting = {model: measured(score, "fit", choice.data, choice.work) for model, score in scores.items()}
    tables = {"caught": Table(), "folders": Table()}
    judged = choice.judge or choice.models
    for model in judged:
        others = [rows for name, rows in fitting.items() if name != model]
        weights = Universals(fit(others, True), fit(others, False))
        pictures = Pictures(measured(scores[model], "judge", choice.data, choice.work))
        with_clean_pictures(model, pictures, weights, tables["caught"])
        without(model, pictures, weights, tables["folders"])
    about = {"clean": CLEAN, "bound": BOUND, "draws": DRAWS, "false discoveries": FDR}
    title = "The universal statistic, for encoders that had no part in its fit"
    print(save("universal", title, tables, models=choice.models, detectors=["universal"], settings=about))


if __name__ == "__main__":
    main()
