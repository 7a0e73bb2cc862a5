"""How well the shipped detector works on photographs and prompts that it has never seen.

    python -m benchmarks.detection [--model mini] [--data ../shared/data] --work DIR [--parts paper scenarios …]

Writes docs/figures/detection-MODEL.json: the paper's quantities with the paper's figures; what each method catches of
each attack scenario, on the file as it is and saved again; false alarms on clean pictures in every state, and at two
bounds; recall at alert budgets; and the undetected score gain of each scenario (the gain where no alarm is raised, else
0). The photographs are those that calibration left out (`training.detector.photographs`), and the prompts are drawn
with another seed. Fooled pictures are kept in DIR; a second call only measures.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import Progress
from scipy.stats import binom

from benchmarks.common import Table, balanced, exact, interval
from benchmarks.record import save
from foclip.attacks import CMAES, MIFGSM, PGD, Adam, AttackPlan, FoCLIP, SinglePrompt, make_plan, objective
from foclip.data import images
from foclip.data.prompts import ARTWORKS, Prompts
from foclip.detection import FullDetector, Method, Sensitivity, hardened_of, measure
from foclip.detection.detector import shipped
from foclip.detection.scenarios import AFTERWARDS, CONDITIONS, LEAST_RISE
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from foclip.outcome import Advance
from foclip.perceptual.budget import Budget
from foclip.runs import fooling
from foclip.runs.folder import Result
from training.detector import draw_prompts, photographs
from training.drawn import charts, pages

METHODS = ("rule", "combined", "no prompt")
#: Alert budgets: shares of clean pictures that may be called tampered.
BUDGETS = (0.001, 0.002, 0.004, 0.01)
#: A cropped scenario counts if the score is still up by this much.
STILL_UP = 0.1
#: Numbers with which probes are drawn, as by `detect --draw`.
DRAWS = range(1, 6)
PARTS = ("paper", "scenarios", "alarms", "bounds", "budgets", "undetected")
#: Bounds on false alarms that the part `bounds` asks of every method.
BOUNDS = (0.01, 0.05)


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    attack: AttackPlan
    prompts: Sequence[Prompts]
    count: int


class Bench:
    """Photographs and prompts never used in calibration, and what the detector says of them."""

    def __init__(self, model: str, data: Path, work: Path) -> None:
        self.score = CLIPScore(load_encoder(model))
        self.detector: FullDetector = shipped(self.score.encoder)
        self.hardened = hardened_of(self.detector, self.score)
        self.work = work / model
        self.files, captions = photographs(data, "check")
        self.own: list[Prompts] = [(caption,) for caption in captions]
        self.mixed: list[Prompts] = [tuple(each) for each in draw_prompts(captions, 1)]
        self.artworks: list[Prompts] = [ARTWORKS] * len(self.files)

    @cached_property
    def originals(self) -> list[Image.Image]:
        """The photographs."""
        return [images.read(file) for file in self.files]

    def measure(
        self, pictures: Sequence[Image.Image], prompts: Sequence[Prompts], draw: int | None = None
    ) -> list[Sensitivity]:
        """Sensitivities with each picture's own prompts."""
        found: list[Sensitivity] = []
        for i in range(0, len(pictures), 32):
            part, asked = pictures[i : i + 32], prompts[i : i + 32]
            found += measure(self.score, part, asked, self.detector.probes, self.hardened, captions=True, seed=draw)
        return found

    def flagged(self, found: Sequence[Sensitivity], method: str, fpr: float | None = None) -> np.ndarray:
        """Whether each picture is called tampered by "rule", "combined" or "no prompt"."""
        if method == "no prompt":
            found = [s.without_prompts() for s in found]
        by: Method = "rule" if method == "rule" else "combined"
        return np.array([self.detector.judge(s, by, fpr).verdict == "tampered" for s in found], dtype=bool)

    def fool(self, name: str, scenario: Scenario) -> list[Result]:
        """Results of a scenario, from `work` if they are there."""
        with Progress(transient=True) as bar:

            def progress(text: str, total: int) -> Advance:
                task = bar.add_task(name, total=total)
                return lambda done, note="": bar.update(task, completed=done)

            out = self.work / re.sub(r"\W+", "-", name)
            files, prompts = self.files[: scenario.count], scenario.prompts[: scenario.count]
            return fooling.fool(
                files, prompts, out, model=self.score, attack=scenario.attack, progress=progress
            ).results

    def fooled(
        self, name: str, scenario: Scenario, change: Callable[[Image.Image], Image.Image] | None = None
    ) -> tuple[list[Sensitivity], np.ndarray]:
        """What is measured of fooled files, after `change`, and the rise of each one's score."""
        results = self.fool(name, scenario)
        pictures = [images.read(result.output) for result in results]
        found = self.measure([change(p) if change else p for p in pictures], [tuple(r.prompts) for r in results])
        rises = [(s.score or 0.0) - r.score_before for s, r in zip(found, results, strict=True)]
        return found, np.array(rises)


def scenarios(bench: Bench, count: int, steps: int) -> dict[str, Scenario]:
    """Every scenario of the table by name."""
    foclip = make_plan(FoCLIP, objective=objective(), steps=steps, budgets="psnr:35")

    def own(db: float, rise: float | None = None) -> Scenario:
        return Scenario(foclip.replace(budgets=Budget("psnr", db), rise=rise), bench.own, count)

    few = max(8, count // 3)
    return {
        **{f"own caption, {db:g} dB": own(db) for db in (35.0, 40.0, 45.0, 50.0)},
        "own caption, +0.2 at 40 dB": own(40.0, 0.2),
        **{
            f"ten artworks, {db:g} dB": Scenario(foclip.replace(budgets=Budget("psnr", db)), bench.artworks, count)
            for db in (35.0, 40.0, 45.0)
        },
        "five kinds of prompts": Scenario(foclip, bench.mixed, count),
        "50 steps": Scenario(foclip.replace(steps=50), bench.mixed, few),
        "noise start": Scenario(foclip.replace(budgets=(), init="noise"), bench.mixed, few),
        "PGD": Scenario(make_plan(PGD, steps=300, budgets="psnr:35"), bench.mixed, few),
        "Adam": Scenario(make_plan(Adam, steps=300, budgets="psnr:35", init="image"), bench.mixed, few),
        "one prompt": Scenario(make_plan(SinglePrompt, steps=300, budgets="psnr:35"), bench.mixed, few),
        "MI-FGSM": Scenario(make_plan(MIFGSM, budgets="psnr:35"), bench.mixed, count),
        "CMA-ES": Scenario(make_plan(CMAES, steps=3000, budgets="psnr:35"), bench.mixed, few),
    }


def paper(bench: Bench, count: int, steps: int) -> Table:
    """The paper's quantities, for the ten artworks at 35 dB, beside the paper's figures."""
    clean = bench.measure(bench.originals, bench.artworks)
    attack = make_plan(FoCLIP, objective=objective(), steps=steps, budgets="psnr:35")
    fooled, _ = bench.fooled("artworks", Scenario(attack, bench.artworks, count))
    found = Table()
    for kind, seen, beside in (("originals", clean, 0.085), ("fooled", fooled, 0.632)):
        lost = 1 - sum(s.scores["gray"] for s in seen) / sum(s.score or 0.0 for s in seen)
        drops = interval([s.drops["gray"] for s in seen])
        found.add({"quantity": f"mean drop, {kind}", "n": len(seen), "ours": drops, "paper": beside})
        found.add({"quantity": f"drop of the mean score, {kind}", "n": len(seen), "ours": lost, "paper": beside})
    caught, alarms = (bench.flagged(s, "rule") for s in (fooled, [s for s in clean if not s.gray_already]))
    accuracy, number = balanced(caught, alarms), len(caught) + len(alarms)
    found.add({"quantity": "balanced accuracy of the rule", "n": number, "ours": accuracy, "paper": 0.91})
    return found


def caught(bench: Bench, count: int, steps: int) -> Table:
    """What is caught of each scenario: of pictures whose score rose, and of cropped ones whose score is still up."""
    least = LEAST_RISE * bench.score.info.floor
    again = {"JPEG 85": AFTERWARDS["JPEG 85"], "cropped to 95 %": AFTERWARDS["cropped to 95 %"]}
    rows = Table()
    for name, scenario in scenarios(bench, count, steps).items():
        states = {"as it is": None} | (again if "dB" in name and "35" not in name else {})
        gained = np.array([])
        for state, change in states.items():
            found, rises = bench.fooled(name, scenario, change)
            gained = gained if change else rises >= least
            # A file saved as JPEG counts whatever it lost; a crop may end the scenario altogether.
            kept = rises >= STILL_UP if state == "cropped to 95 %" else gained
            if not kept.any():
                continue
            counted = [s for s, keep in zip(found, kept, strict=True) if keep]
            shares = {method: interval(bench.flagged(counted, method).astype(float)) for method in METHODS}
            rows.add({"scenario": name, "file": state, "n": len(counted), "rise": float(rises[kept].mean()), **shares})
    return rows


def alarms(bench: Bench) -> Table:
    """False alarms on clean pictures as they are, with each kind of prompts, and in every state."""
    kinds: dict[str, tuple[Sequence[Image.Image], Sequence[Prompts]]] = {
        "as they are": (bench.originals, bench.own),
        "as they are, artworks": (bench.originals, bench.artworks),
        "as they are, five kinds": (bench.originals, bench.mixed),
    }
    for state, change in CONDITIONS.items():
        kinds[state] = ([change(picture) for picture in bench.originals], bench.own)
    for name, draw in (("charts", charts), ("pages of text", pages)):
        pictures = list(draw(len(bench.originals), seed=1))
        fitting = bench.measure(pictures, [()] * len(pictures))  # the caption that fits best: a clean picture's own
        kinds[name] = (pictures, [(str(s.zero_shot_caption),) for s in fitting])
    draws = {f"as they are, seed {number}": number for number in DRAWS}
    kinds |= dict.fromkeys(draws, kinds["as they are"])
    rows = Table()
    for name, (shown, prompts) in kinds.items():
        measured = bench.measure(shown, prompts, draws.get(name))
        found = [s for s in measured if "as they are" not in name or not s.gray_already]
        shares = {method: exact(bench.flagged(found, method)) for method in METHODS}
        rows.add({"pictures": name, "n": len(found), **shares})
    return rows


def seeds(found: Table) -> Table:
    """Mean and most of the false alarms with randomised probes."""
    rows = Table()
    for name, of in (("mean", np.mean), ("worst", np.max)):
        drawn = [row for row in found if ", seed " in str(row["pictures"])]
        rows.add({"seeds": name} | {method: float(of([row[method].value for row in drawn])) for method in METHODS})
    return rows


def bounds(bench: Bench) -> Table:
    """False alarms of every method at two bounds, for ten artworks, beside those of as many draws at the bound."""
    found = [s for s in bench.measure(bench.originals, bench.artworks) if not s.gray_already]
    rows = Table()
    for method in METHODS:
        for bound in BOUNDS:
            low, high = binom.ppf([0.025, 0.975], len(found), bound)
            alarms = int(bench.flagged(found, method, bound).sum())
            expected = f"{low:.0f} to {high:.0f}"
            rows.add({"method": method, "bound": bound, "n": len(found), "alarms": alarms, "expected": expected})
    return rows


def budgets(bench: Bench, count: int, steps: int) -> Table:
    """What the combined detector catches at alert budgets."""
    chosen = {
        name: scenario
        for name, scenario in scenarios(bench, count, steps).items()
        if "40 dB" in name or "35 dB" in name
    }
    clean = [s for s in bench.measure(bench.originals, bench.own) if not s.gray_already]
    found = {name: bench.fooled(name, scenario)[0] for name, scenario in chosen.items()}
    rows, distinct = Table(), bench.detector.combined.distinct
    for fpr in BUDGETS:
        if fpr * (distinct + 1) >= 1 - 1e-9:  # with fewer clean pictures, nothing could be promised
            shares = {name: exact(bench.flagged(seen, "combined", fpr)) for name, seen in found.items()}
            rows.add({"budget": fpr, "false alarms": exact(bench.flagged(clean, "combined", fpr)), **shares})
    return rows


def undetected(bench: Bench, count: int, steps: int) -> Table:
    """What cheating still pays one who knows nothing: the mean rise of the score where no alarm is raised, else 0."""
    rows = Table()
    for db in (35.0, 40.0, 45.0, 50.0):
        name = f"own caption, {db:g} dB"
        found, rises = bench.fooled(name, scenarios(bench, count, steps)[name])
        left = {each: float(np.where(bench.flagged(found, each), 0, rises).mean()) for each in METHODS}
        rows.add({"budget / dB": f"{db:g}", "rise": float(rises.mean()), **left})
    return rows


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fooled", type=int, default=60, help="photographs per scenario")
    parser.add_argument("--steps", type=int, default=150, help="steps of FoCLIP")
    parser.add_argument("--paper-steps", type=int, default=1000, help="steps of the part `paper`")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    choice = parser.parse_args()
    bench = Bench(choice.model, choice.data, choice.work)
    count, steps = choice.fooled, choice.steps
    parts: dict[str, Callable[[], Table]] = {
        "paper": lambda: paper(bench, max(8, count // 2), choice.paper_steps),
        "scenarios": lambda: caught(bench, count, steps),
        "alarms": lambda: alarms(bench),
        "bounds": lambda: bounds(bench),
        "budgets": lambda: budgets(bench, count, steps),
        "undetected": lambda: undetected(bench, count, steps),
    }
    tables = {}
    for name in choice.parts:
        print(f"== {name}", flush=True)
        tables[name] = parts[name]()
    if "alarms" in tables:
        tables["seeds"] = seeds(tables["alarms"])
    models = (choice.model, *bench.hardened)
    about = {"photographs": len(bench.files), "bound": bench.detector.fpr, "fooled": count, "steps": steps}
    title = f"What the detector of {choice.model} catches, on photographs that had no part in its calibration"
    print(save(f"detection-{choice.model}", title, tables, models=models, detectors=[choice.model], settings=about))


if __name__ == "__main__":
    main()
