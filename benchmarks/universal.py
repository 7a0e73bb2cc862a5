"""How well the universal statistic works for an encoder that it was not fitted on.

    python -m benchmarks.universal mini mini-vit [--data ../shared/data] --work DIR

Each encoder is left out in turn: the statistic is fitted through the others, on one half of the photographs
(`training.universal`), and judges the other half, on which nothing was fitted. Writes docs/figures/universal.json: for
100 clean pictures and a bound of 2 %, false alarms on clean pictures in every state and what is caught of every
scenario; and for folders that are their own reference, the share of false discoveries. Fooled pictures and measurements
are kept in DIR.

Of one reference, the rate of false alarms differs from the bound by chance: with n clean pictures of which k - 1 may be
exceeded, it is drawn from the beta distribution of k and n + 1 - k. "At most" is where the 95 % interval ends of
what is found. Folders are those of `benchmarks.folders`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from scipy.stats import betabinom

from benchmarks import folders
from benchmarks.record import save
from foclip.calibration.examples import AS_IT_IS
from foclip.detection.peers import FDR
from foclip.detection.universal import Reference, Universals
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from training.universal import FOOLED, Row, fit, measured, pays, seen

#: Clean pictures of a reference, the bound, and the random references that rates are means of.
CLEAN, BOUND, DRAWS = 100, 0.02, 5
#: What is added to the name of a kind of pictures of which some others are the background of the reference.
KNOWN = ", background"


class Pictures:
    """What one encoder sees of the photographs that judge."""

    def __init__(self, rows: Sequence[Row], fitting: Sequence[Row]) -> None:
        self.rows = rows
        self.originals = {row.number: row for row in rows if not row.scenario and row.state == AS_IT_IS}
        #: Photographs that a reference may be drawn from: those that were not fooled, each in one other state too.
        self.others = list(self.originals)[FOOLED["judge"] :]
        #: Drawn pictures of the other half by kind.
        self.drawn: dict[str, list[Row]] = {}
        for row in fitting:
            if row.number < 0:
                self.drawn.setdefault(row.state, []).append(row)

    def reference(self, weights: Universals, chosen: Sequence[int], prompts: str, drawn: bool = False) -> Reference:
        """Clean pictures as `foclip calibrate` keeps them, with prompts of one kind or without.

        Drawn pictures are its background if they are asked for.
        """
        statistic = weights.without_prompts if prompts == "none" else weights.with_prompts
        clean = [row for row in self.rows if row.number in chosen and not row.scenario]
        usual, states = (
            [statistic.features(seen(row, prompts)) for row in clean if (row.state == AS_IT_IS) == as_it_is]
            for as_it_is in (True, False)
        )
        kinds = self.drawn if drawn else {}
        told = {kind: [statistic.features(seen(row, prompts)) for row in rows] for kind, rows in kinds.items()}
        return Reference(statistic, usual, states, told)


def with_clean_pictures(pictures: Pictures, weights: Universals) -> list[dict[str, Any]]:
    """Rates with a reference of `CLEAN` pictures."""
    rates: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for draw in range(DRAWS):
        chosen = np.random.default_rng(draw).choice(pictures.others, CLEAN, replace=False).tolist()
        parts = {each: pictures.reference(weights, chosen, each) for each in ("own", "artworks", "none")}
        known = {each: pictures.reference(weights, chosen, each, drawn=True) for each in ("own", "none")}
        kinds: dict[tuple[str, str], list[Row]] = {}
        for row in pictures.rows:
            if row.number not in chosen and (not row.scenario or pays(row, pictures.originals)):
                kinds.setdefault((row.scenario, row.state), []).append(row)
                if row.state in pictures.drawn:
                    kinds.setdefault(("", row.state + KNOWN), []).append(row)
        for (scenario, state), some in kinds.items():
            with_prompts = "artworks" if scenario.startswith("ten artworks") else "own"
            using = known if state.endswith(KNOWN) else parts
            shares = [
                float(np.mean([using[prompts].ranked(seen(row, prompts)).p_value <= BOUND for row in some]))
                for prompts in (with_prompts, "none")
            ]
            rates.setdefault((scenario, state), []).append((len(some), shares[0], shares[1]))
    print(f"   {'pictures':<26}{'state':<22}{'number':>7}{'with prompts':>14}{'without':>10}")
    found: list[dict[str, Any]] = []
    for (scenario, state), each in rates.items():
        count, caught, bare = np.mean(each, axis=0).tolist()
        print(f"   {scenario or 'clean':<26}{state:<22}{count:>7.0f}{caught:>14.1%}{bare:>10.1%}", flush=True)
        names: dict[str, Any] = {"scenario": scenario or "clean", "state": state}
        found.append(
            names
            | {"pictures": round(count), "at most": most(round(count))}
            | {"with prompts": caught, "without": bare}
        )
    return found


def most(pictures: int) -> float:
    """Where the 95 % interval of the share of false alarms among so many pictures ends."""
    allowed = int(BOUND * (CLEAN + 1))
    return float(betabinom.ppf(0.975, pictures, allowed, CLEAN + 1 - allowed)) / pictures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    choice = parser.parse_args()
    scores = {model: CLIPScore(load_encoder(model)) for model in choice.models}
    fitting = {model: measured(score, "fit", choice.data, choice.work) for model, score in scores.items()}
    tables: dict[str, list[dict[str, Any]]] = {"caught": [], "folders": []}
    for model in choice.models:
        others = [rows for name, rows in fitting.items() if name != model]
        weights = Universals(fit(others, True), fit(others, False))
        pictures = Pictures(measured(scores[model], "judge", choice.data, choice.work), fitting[model])
        print(f"{model}, left out; {CLEAN} clean pictures, bound {BOUND:.0%}, mean of {DRAWS} references", flush=True)
        encoder = {"encoder": PurePath(model).name}
        tables["caught"] += [encoder | row for row in with_clean_pictures(pictures, weights)]
        print(f"{model}, left out; folders as their own reference, false discoveries aimed at: {FDR:.0%}")
        small = folders.small(pictures.rows, pictures.originals)
        large = folders.large(scores[model], pictures.originals, choice.data, choice.work)
        tables["folders"] += [encoder | row for row in folders.rates((small, large), weights)]
    about = {"clean": CLEAN, "bound": BOUND, "draws": DRAWS, "false discoveries": FDR}
    title = "The universal statistic, for encoders that had no part in its fit"
    print(save("universal", title, tables, models=choice.models, settings=about))


if __name__ == "__main__":
    main()
