"""Make the statistic for encoders without a detector of their own: ``python -m training.universal mini mini-vit``.

Photographs of one half (even places in the index) are fooled through each of some encoders; features are measured of
them and of clean pictures, and standardised by each encoder's own clean ones, as its users will do; one regression is
fitted to all. The other half is for ``python -m benchmarks.universal``. Fooled pictures are kept in the working folder.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from foclip.attacks import AttackPlan, FoCLIP, default_plan, make_plan, objective
from foclip.data.prompts import ARTWORKS, CAPTION, Prompts
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from foclip.outcome import Advance
from foclip.runs import fooling
from foclip.runs.folder import Result

STEPS = 60
#: Photographs of each half that are fooled, in every scenario.
FOOLED = {"fit": 40, "judge": 48}


def photographs(data: Path, part: str) -> tuple[list[Path], list[str]]:
    """Files and captions of the ImageNet photographs to "fit" (every other one), or to "judge"."""
    entries = json.loads((data / "imagenet-photos" / "index.json").read_text())[part == "judge" :: 2]
    return [data / "imagenet-photos" / e["file"] for e in entries], [CAPTION.format(e["name"]) for e in entries]


def scenarios(score: CLIPScore) -> dict[str, tuple[str, AttackPlan]]:
    """Whether the own caption or the ten artworks are to score high, and the attack, by the name of the scenario."""
    foclip = make_plan(FoCLIP, objective=objective(temperature=score.info.temperature), steps=STEPS, budgets="psnr:40")
    at = {f"{db} dB": make_plan(foclip.method, steps=STEPS, budgets=f"psnr:{db}") for db in (45, 40, 50)}
    return {
        **{f"own caption, {name}": ("own", plan) for name, plan in at.items()},
        "own caption, invisible": ("own", default_plan(score, steps=STEPS)),
        "ten artworks, 40 dB": ("artworks", at["40 dB"]),
    }


def fool(score: CLIPScore, part: str, data: Path, work: Path) -> dict[str, list[Result]]:
    """Results of every scenario for the photographs of a part; from the working folder where they are there."""
    (files, captions), count, found = photographs(data, part), FOOLED[part], {}
    # Far from each other, since neighbours in the index are of like classes; a larger count adds to a smaller one's.
    places = [number * 149 % len(files) for number in range(count)]
    with Progress() as bar:

        def progress(text: str, total: int) -> Advance:
            task = bar.add_task(f"{score.model}, {part}, {name}", total=total)
            return lambda done, note="": bar.update(task, completed=done)

        for name, (target, plan) in scenarios(score).items():
            prompts: Sequence[Prompts] = [ARTWORKS if target == "artworks" else (captions[p],) for p in places]
            out = work / score.model / part / re.sub(r"\W+", "-", name)
            made = fooling.fool([files[p] for p in places], prompts, out, model=score, attack=plan, progress=progress)
            found[name] = made.results
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="folder for fooled pictures")
    choice = parser.parse_args()
    for model in choice.models:
        fool(CLIPScore(load_encoder(model)), "fit", choice.data, choice.work)


if __name__ == "__main__":
    main()
