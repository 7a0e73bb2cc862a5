"""Make the detector that ships with an embedded encoder: ``python -m training.detector mini --work DIR``.

It is calibrated on the photographs of ``photographs(data, "calibration")``, which no encoder was
trained on; ``benchmarks/detection.py`` measures it on the others.  A score is asked for with
few prompts and with many, with fitting and with unfitting ones, so each photograph gets one of
five kinds of prompts, in turn; and every other one its own caption.  Thumbnails of Tiny-ImageNet's validation set,
so that low alert budgets can be promised, and drawn charts and pages of text stand beside them as clean pictures.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from rich.progress import Progress

from foclip.calibration import calibrate
from foclip.data.prompts import ARTWORKS, CAPTION, imagenet
from foclip.detection import measure
from foclip.detection.detector import SHIPPED
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from foclip.outcome import Advance
from foclip.reports import calibration
from training.drawn import charts, pages

#: Bound on false alarms for every kind of clean pictures; most kinds stay far below what the most suspicious one has.
FPR = 0.02


def photographs(data: Path, part: str) -> tuple[list[Path], list[str]]:
    """Files and captions of the ImageNet photographs for "calibration" (5 of 7) or for a "check"."""
    entries = json.loads((data / "imagenet-photos" / "index.json").read_text())
    entries = [entry for i, entry in enumerate(entries) if (i % 7 < 5) == (part == "calibration")]
    captions = [CAPTION.format(entry["name"]) for entry in entries]
    return [data / "imagenet-photos" / entry["file"] for entry in entries], captions


def draw_prompts(captions: list[str], seed: int) -> list[list[str]]:
    """Prompts for each picture: artworks, 25 or 100 captions, its own, or its own among four others."""
    rng = random.Random(seed)
    everything = imagenet(1000)
    kinds: list[Callable[[str], list[str]]] = [
        lambda own: list(ARTWORKS),
        lambda own: rng.sample(everything, 25),
        lambda own: rng.sample(everything, 100),
        lambda own: [own],
        lambda own: [own, *rng.sample(everything, 4)],
    ]
    return [kinds[i % len(kinds)](own) for i, own in enumerate(captions)]


def thumbnails(data: Path, count: int, work: Path, part: int) -> tuple[list[Path], list[str]]:
    """Files and captions of Tiny-ImageNet's validation pictures: of its even rows (part 0) or its odd ones (1).

    They are written to `work` as they are, WebP bytes of 64 × 64 pixels.
    """
    table = pd.read_parquet(data / "tiny-imagenet" / "val.parquet").iloc[part::2]
    chosen = table.sample(count, random_state=0)
    classes = json.loads((data / "tiny-imagenet" / "classes.json").read_text())
    names = {entry["label"]: entry["names"][0] for entry in classes}
    work.mkdir(parents=True, exist_ok=True)
    files, captions = [], []
    for number, row in chosen.iterrows():
        content = row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"]
        files.append(work / f"{number}.webp")
        files[-1].write_bytes(content)
        captions.append(CAPTION.format(names[row["label"]]))
    return files, captions


def drawn(score: CLIPScore, count: int, work: Path) -> tuple[list[Path], list[str]]:
    """Files of charts and of pages of text, and the caption that each fits best of a thousand.

    They are written to `work`, in a folder for each of the two kinds.
    """
    files, captions = [], []
    for name, draw in (("charts", charts), ("pages", pages)):
        (work / name).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(draw(count, seed=0)):
            files.append(work / name / f"{number}.png")
            picture.save(files[-1])
            (found,) = measure(score, [picture], [()], (), captions=True)
            captions.append(str(found.zero_shot_caption))
    return files, captions


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="folder for fooled pictures and the report")
    parser.add_argument("--fooled", type=int, default=570)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--thumbnails", type=int, default=1600, help="clean pictures of Tiny-ImageNet besides")
    parser.add_argument("--drawn", type=int, default=400, help="charts, and as many pages of text, besides")
    choice = parser.parse_args()
    score = CLIPScore(load_encoder(choice.model))
    pictures, captions = photographs(choice.data, "calibration")
    background, further = thumbnails(choice.data, choice.thumbnails, choice.work / "thumbnails", 0)
    more, fitting = drawn(score, choice.drawn, choice.work)
    background, further = background + more, further + fitting
    captions += further
    with Progress() as bar:

        def progress(text: str, total: int) -> Advance:
            task = bar.add_task(text, total=total)
            return lambda done, note="": bar.update(task, completed=done)

        found = calibrate(
            pictures,
            [*draw_prompts(captions[: len(pictures)], 0), *([caption] for caption in further)],
            choice.work,
            model=score,
            steps=choice.steps,
            own=captions,
            background=background,
            fpr=FPR,
            fooled=choice.fooled,
            name=choice.model,
            progress=progress,
        )
    SHIPPED.mkdir(exist_ok=True)
    found.detector.save(SHIPPED / f"{choice.model}.json")
    calibration.write(choice.work / "report.html", found)
    for row in calibration.summary(found):
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
