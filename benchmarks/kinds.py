"""Captions and pictures that differ in kind: ``python -m benchmarks.kinds mini mini-vit --work DIR``.

The universal statistic that ships judges them. Captions: the photographs that judge (`training.universal`) with
captions such as alternative texts, those of COCO, prompts of a text-to-image model, and names of files. Of each kind, a
few photographs are fooled at 45 dB for theirs. Rates for 100 clean pictures and a bound of 2 %, where the reference has
captions "a photo of a …", or of the same kind. Pictures: folders that are their own reference, photographs with charts,
pages of text or thumbnails among them. Writes docs/figures/kinds.json; what is fooled and measured is kept in DIR.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from benchmarks.record import save
from benchmarks.universal import BOUND, CLEAN, DRAWS, Pictures
from foclip.attacks import AttackTask, FoCLIP, make_plan, run
from foclip.calibration.examples import AS_IT_IS
from foclip.data import images
from foclip.data.prompts import CAPTION
from foclip.detection.peers import judge_peers
from foclip.detection.scenarios import CONDITIONS
from foclip.detection.universal import Reference, universal
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from training.universal import (
    FOOLED,
    STEPS,
    Picture,
    Row,
    look,
    measured,
    own_folder,
    pays,
    photographs,
    places_of,
    seen,
)

USUAL = "of a class"
#: Captions of a thing by kind.
CAPTIONS: Mapping[str, str] = {
    USUAL: CAPTION,
    "alternative text": "Buy {} online - free shipping",
    "as COCO's": "A man and a woman standing next to a {} in a park.",
    "prompt of a generator": "{}, highly detailed, digital art, 8k",
    "name of a file": "IMG_{}_2034.jpg",
}
PSNR = 45
#: Photographs of a folder, pictures of another kind among them, and fooled photographs.
PHOTOGRAPHS, OTHERS, FEW = 100, 30, 5


def with_captions(score: CLIPScore, kind: str, data: Path, work: Path) -> Pictures:
    """What is measured of the photographs that judge, and of some fooled ones, with captions of a kind."""
    photos, _ = photographs(data, "judge")
    entries = json.loads((data / "imagenet-photos" / "index.json").read_text())[1::2]
    captions = [CAPTIONS[kind].format(entry["name"]) for entry in entries]
    order, folder = places_of(photos), own_folder(score, work) / "kinds"

    def pictures() -> Iterator[Picture]:
        for number in order:
            yield number, "", AS_IT_IS, images.read(photos[number]), (captions[number],)
        for number, (state, change) in zip(order, cycle(CONDITIONS.items()), strict=False):
            yield number, "", state, change(images.read(photos[number])), (captions[number],)
        some = [
            AttackTask(images.to_tensor(images.read(photos[p])), (captions[p],), p) for p in order[: FOOLED["judge"]]
        ]
        for result in run(some, score, make_plan(FoCLIP, steps=STEPS, budgets=f"psnr:{PSNR}")):
            place = int(result.task.tag)
            yield place, "own caption", AS_IT_IS, images.to_image(result.pixels), (captions[place],)

    return Pictures(look(score, pictures(), folder / f"{kind.replace(' ', '-')}.pickle"), [])


def caption_rates(by_kind: Mapping[str, Pictures]) -> list[dict[str, Any]]:
    """False alarms, and what is caught, with references of captions of a class, and of the same kind."""
    found = []
    for kind, pictures in by_kind.items():
        fooled = [each for each in pictures.rows if each.scenario and pays(each, pictures.originals)]
        row: dict[str, Any] = {"captions": kind, "fooled": len(fooled)}
        for name, behind in (("class", by_kind[USUAL]), ("same", pictures)):
            alarms, caught = [], []
            for draw in range(DRAWS):
                chosen = np.random.default_rng(draw).choice(behind.others, CLEAN, replace=False).tolist()
                reference = behind.reference(universal(), chosen, "own")
                clean = [each for number, each in pictures.originals.items() if number not in chosen]
                alarms.append(_share(reference, clean))
                caught.append(_share(reference, fooled))
            row |= {f"alarms, {name}": float(np.mean(alarms)), f"caught, {name}": float(np.mean(caught))}
        print("   " + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        found.append(row)
    return found


def _share(reference: Reference, rows: Sequence[Row]) -> float:
    """The share of pictures that are called tampered."""
    return float(np.mean([reference.ranked(row.own).p_value <= BOUND for row in rows]))


def folder_rates(pictures: Pictures) -> list[dict[str, Any]]:
    """Folders of photographs, of which some are fooled, with pictures of other kinds among them."""
    usual = [pictures.originals[number] for number in pictures.others]
    paying = [row for row in pictures.rows if row.scenario == f"own caption, {PSNR} dB" and row.state == AS_IT_IS]
    paying = [row for row in paying if pays(row, pictures.originals)][:FEW]
    found = []
    for kind in ("none", "charts", "pages of text", "48-pixel thumbnail"):
        others = [row for row in pictures.rows if not row.scenario and row.state == kind][:OTHERS]
        for prompts in ("own", "none"):
            counts = []
            for draw in range(DRAWS):
                dice = np.random.default_rng(draw)
                some = [usual[place] for place in dice.choice(len(usual), PHOTOGRAPHS, replace=False)]
                judged = judge_peers([seen(row, prompts) for row in (*some, *others, *paying)], universal())
                called = [verdict.verdict == "tampered" for verdict in judged]
                first, last = len(some), len(some) + len(others)
                counts.append((sum(called[:first]), sum(called[first:last]), sum(called[last:])))
            names = ("alarms, photographs", "alarms, others", "caught")
            row: dict[str, Any] = {"others": kind, "prompts": prompts, "pictures": len(others), "fooled": len(paying)}
            row |= dict(zip(names, np.mean(counts, axis=0).tolist(), strict=True))
            print("   " + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            found.append(row)
    return found


def main() -> None:
    """Print and record the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    choice = parser.parse_args()
    tables: dict[str, list[dict[str, Any]]] = {"captions": [], "folders": []}
    for model in choice.models:
        score, encoder = CLIPScore(load_encoder(model)), {"encoder": PurePath(model).name}
        print(f"{model}: captions of another kind")
        by_kind = {kind: with_captions(score, kind, choice.data, choice.work) for kind in CAPTIONS}
        tables["captions"] += [encoder | row for row in caption_rates(by_kind)]
        print(f"{model}: folders of {PHOTOGRAPHS} photographs with others among them, false discoveries aimed at: 10 %")
        pictures = Pictures(measured(score, "judge", choice.data, choice.work), [])
        tables["folders"] += [encoder | row for row in folder_rates(pictures)]
    about = {"clean": CLEAN, "bound": BOUND, "draws": DRAWS, "psnr": PSNR}
    title = "The universal statistic, with captions and pictures that differ in kind"
    print(save("kinds", title, tables, models=choice.models, detectors=["universal"], settings=about))


if __name__ == "__main__":
    main()
