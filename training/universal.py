"""Make the statistic for encoders without a detector of their own: ``python -m training.universal MODEL… --work DIR``.

Photographs of one half (even places in the index) are fooled through each of some encoders; the heading under each
probe is measured of them and of clean pictures, and standardised by each encoder's own clean ones, as its users will
do; one regression is fitted to all. Its weights are held near each other: an encoder that had no part in the fit is
served best by headings that weigh alike. The other half is for ``python -m benchmarks.universal``. Fooled pictures,
and what was measured, are kept in the working folder.
"""

import argparse
import json
import math
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from foclip import files
from foclip.attacks import AttackPlan, AttackTask, FoCLIP, default_plan, make_plan, objective, run
from foclip.calibration.examples import AS_IT_IS
from foclip.data import images
from foclip.data.prompts import ARTWORKS, CAPTION, Prompts
from foclip.detection import Prober, Sensitivity, measure
from foclip.detection.features import UNIVERSAL, feature_names, feature_values
from foclip.detection.peers import Peers
from foclip.detection.scenarios import AFTERWARDS, CONDITIONS, CROPPED, LEAST_RISE, Change
from foclip.detection.universal import SHIPPED, SURVIVAL, Floats, Scatter, Universal, Universals
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from training.drawn import charts, pages

#: Probes that are measured, in their order.
PROBES = ("webp", "shrink90", "shift", "crop", "mirror", "jpeg")
STEPS = 30
#: Photographs of each half that are measured clean, in every other state, and fooled in every scenario. Of the second
#: half, all others are measured in one other state in turn, as `foclip calibrate` does.
CLEAN = {"fit": 200, "judge": 350}
STATES = {"fit": 48, "judge": 24}
FOOLED = {"fit": 40, "judge": 24}
#: Drawn pictures of each kind, how they are drawn, and what fits them.
DRAWN = {"fit": 48, "judge": 100}
KINDS = {"charts": (charts, "a chart."), "pages of text": (pages, "a page of text.")}
#: What is added to the name of a kind if each picture has the caption that fits it best of a thousand.
BEST = ", best caption"
#: What becomes of fooled files, one after the other: a file as it is, saved again, mirrored, or cropped.
AGAIN: Mapping[str, Change] = {
    AS_IT_IS: lambda picture: picture,
    "JPEG 85": AFTERWARDS["JPEG 85"],
    "mirrored": CONDITIONS["mirrored"],
    CROPPED: AFTERWARDS[CROPPED],
}
#: Kinds of prompts that the statistics with them (True) and without are fitted to.
PROMPTS = {True: ("own", "artworks"), False: ("none",)}
#: Pictures measured at a time.
CHUNK = 32
#: Inverse strength of the L2 penalty: strong, since what is learned has to hold for encoders that are not here. The
#: part that all weights have in common costs little: less by the square of the second number.
#: With prompts (True) it may be weaker: there a mirrored file is known by a heading below the median.
PENALTY, COMMON = {True: 0.02, False: 0.005}, 10.0
#: How many probes do not count, of those that tell most; the regression knows nothing of it. With prompts all count:
#: a mirrored file is told by a single one.
LEFT_OUT = {True: 0, False: 1}
#: How much longer than the mean of those of the encoders the tail is said to be: another one's may be longer.
STRETCH = 1.1
#: Clean pictures in folders, and how many folders of each kind, of which the tail is that.
FOLDER, FOLDERS = 48, 20


@dataclass(frozen=True)
class Row:
    """A picture, and what was measured of it with its own caption and with the ten artworks as prompts."""

    number: int  # of the photograph; -1 for drawn pictures
    scenario: str  # "" for a clean picture
    state: str  # what became of it, or its kind
    own: Sensitivity
    artworks: Sensitivity


#: Number of the photograph, scenario, state, the picture, and its own caption.
Picture = tuple[int, str, str, Image.Image, Prompts]


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


def fooled(
    score: CLIPScore, part: str, data: Path, work: Path, count: int = 0, names: Sequence[str] = ()
) -> dict[str, list[tuple[Path, Path, Prompts]]]:
    """Of every scenario, or those of some names, the fooled files, their originals, and what they were fooled for.

    So many of each, by default as many as `FOOLED` says.
    """
    (photos, captions), found = photographs(data, part), {}
    # Far from each other, since neighbours in the index are of like classes; a larger count adds to a smaller one's.
    places = places_of(photos)[: count or FOOLED[part]]
    for name, (target, plan) in scenarios(score).items():
        if names and name not in names:
            continue
        folder = own_folder(score, work) / part / re.sub(r"\W+", "-", name)
        folder.mkdir(parents=True, exist_ok=True)
        asked: dict[int, Prompts] = {p: ARTWORKS if target == "artworks" else (captions[p],) for p in places}
        rows = {p: (folder / f"{photos[p].stem}.png", photos[p], asked[p]) for p in places}
        tasks = (
            AttackTask(images.to_tensor(images.read(photos[p])), asked[p], p) for p in places if not rows[p][0].exists()
        )
        for result in run(tasks, score, plan):
            images.write(images.to_image(result.pixels), rows[result.task.tag][0])
        found[name] = list(rows.values())
    return found


def own_folder(score: CLIPScore, work: Path) -> Path:
    """Where what one encoder fooled and measured is kept."""
    return work / Path(score.model).name


def places_of(photos: Sequence[Path]) -> list[int]:
    """Places of photographs in the order in which they are taken."""
    return [number * 149 % len(photos) for number in range(len(photos))]


def measured(score: CLIPScore, part: str, data: Path, work: Path) -> list[Row]:
    """Clean and fooled pictures of a part as one encoder sees them; from the working folder where they are there."""
    photos, captions = photographs(data, part)
    order, seed = places_of(photos), int(part == "judge")

    def pictures() -> Iterator[Picture]:
        for number in order[: CLEAN[part]]:
            yield number, "", AS_IT_IS, images.read(photos[number]), (captions[number],)
        for state, change in CONDITIONS.items():
            for number in order[: STATES[part]]:
                yield number, "", state, change(images.read(photos[number])), (captions[number],)
        if part == "judge":
            for number, (state, change) in zip(order[STATES[part] :], cycle(CONDITIONS.items()), strict=False):
                yield number, "", state, change(images.read(photos[number])), (captions[number],)
        for state, (draw, caption) in KINDS.items():
            for picture in draw(DRAWN[part], seed=seed):
                yield -1, "", state, picture, (caption,)
                if part == "judge":
                    (found,) = measure(score, [picture], [()], (), captions=True)
                    yield -1, "", state + BEST, picture, (str(found.zero_shot_caption),)
        for scenario, rows in fooled(score, part, data, work).items():
            for state, change in AGAIN.items():
                for number, (file, _, _) in zip(order, rows, strict=False):
                    yield number, scenario, state, change(images.read(file)), (captions[number],)

    return look(score, pictures(), own_folder(score, work) / f"{part}.pickle")


def look(score: CLIPScore, pictures: Iterable[Picture], kept: Path) -> list[Row]:
    """What is measured of pictures; of a file of the working folder, if it is there."""
    if kept.exists():
        return list(pickle.loads(kept.read_bytes()))
    prober, found, coming = Prober(score), list[Row](), iter(pictures)
    while some := list(islice(coming, CHUNK)):
        views = [prober.preprocess(picture) for *_, picture, _ in some]
        vectors = torch.cat([prober.embed(views)[:, None], prober.embed_under(PROBES, views, CHUNK)], dim=1)
        own, artworks = (
            prober.tell(views, vectors, PROBES, prompts, captions=True)
            for prompts in ([own for *_, own in some], [ARTWORKS] * len(some))
        )
        found += [Row(*each[:3], *told) for each, *told in zip(some, own, artworks, strict=True)]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(found))
    return found


def seen(row: Row, prompts: str) -> Sensitivity:
    """What was measured of a picture with its own caption ("own"), the "artworks", or without prompts ("none")."""
    found = row.artworks if prompts == "artworks" else row.own
    return found.without_prompts() if prompts == "none" else found


def pays(row: Row, originals: Mapping[int, Row]) -> bool:
    """Whether the score of a fooled picture is still higher than its original's by what counts."""
    prompts = "artworks" if row.scenario.startswith("ten artworks") else "own"
    after, before = (seen(each, prompts).normalised_score for each in (row, originals[row.number]))
    return after - before >= LEAST_RISE


def fit(encoders: Sequence[Sequence[Row]], with_prompts: bool) -> Universal:
    """The statistic that tells the fooled pictures of several encoders from clean ones.

    Encoders, clean and fooled pictures, and each kind of either weigh the same. Headings with the ten artworks are
    compared with clean ones.
    """
    names = feature_names(PROBES, UNIVERSAL[with_prompts])
    tables, truth, weights = [], [], []
    for rows in encoders:
        clean = [row for row in rows if not row.scenario]
        usual = [row for row in clean if row.state == AS_IT_IS]
        originals = {row.number: row for row in usual}
        paying = [row for row in rows if row.scenario and pays(row, originals)]
        for prompts in PROMPTS[with_prompts]:
            table = features([seen(row, prompts) for row in (*usual, *clean)], names)
            scatter = Scatter.of(table[: len(usual)])
            artworks = prompts == "artworks"
            fooled = [row for row in paying if not with_prompts or row.scenario.startswith("ten artworks") == artworks]
            positive = features([seen(row, prompts) for row in fooled], names)
            tables += [scatter.standardise(table[len(usual) :]), scatter.standardise(positive)]
            truth += [np.zeros(len(clean)), np.ones(len(fooled))]
            for kinds in ([row.state for row in clean], [f"{row.scenario} {row.state}" for row in fooled]):
                counts = Counter(kinds)
                weights.append(np.array([1 / (len(counts) * counts[kind]) for kind in kinds]))
    table, weight = np.concatenate(tables), np.concatenate(weights)
    model = LogisticRegression(C=PENALTY[with_prompts], max_iter=5000)
    above, below = np.maximum(table, 0), np.minimum(table, 0)
    together = COMMON * table.sum(axis=1, keepdims=True)
    model.fit(np.hstack([above, below, together]), np.concatenate(truth), sample_weight=weight / weight.mean())
    *each, common = model.coef_[0].tolist()
    rounded = [float(f"{one + COMMON * common:.4g}") for one in each]
    intercept = float(f"{model.intercept_[0]:.4g}")
    untold = [float(place) for place in range(len(SURVIVAL))]
    halves = rounded[: len(names)], rounded[len(names) :]
    found = Universal(names, *halves, intercept, untold, LEFT_OUT[with_prompts])
    return replace(found, tail=tail(found, encoders, with_prompts))


def tail(statistic: Universal, encoders: Sequence[Sequence[Row]], with_prompts: bool) -> list[float]:
    """How far up clean pictures of one kind lie in small folders that are their own reference.

    The mean over the encoders, a little longer; of kinds of prompts, the heaviest tail counts.
    """
    means = []
    for rows in encoders:
        kinds = []
        for prompts in PROMPTS[with_prompts]:
            heights: list[float] = []
            for state in dict.fromkeys(row.state for row in rows if not row.scenario):
                some = [seen(row, prompts) for row in rows if not row.scenario and row.state == state]
                table = features(some, statistic.inputs)
                for folder in range(FOLDERS):
                    chosen = np.random.default_rng(folder).choice(len(table), min(FOLDER, len(table)), replace=False)
                    heights += Peers.of(statistic, table[chosen]).heights(table[chosen]).tolist()
            kinds.append(np.quantile(heights, 1 - np.array(SURVIVAL[:-1])))
        means.append(np.max(kinds, axis=0))
    mean = np.mean(means, axis=0)
    # The last lies on the line through the second and the one before it: one odd photograph of 48 would decide it.
    nearer, last = (math.log(SURVIVAL[1] / share) for share in SURVIVAL[-2:])
    further = mean[1] + (mean[-1] - mean[1]) * last / nearer
    # Heights are rounded twice: that of the median is nearly 0, and comes out as 0.
    return [float(f"{round(STRETCH * each, 9):.4g}") for each in (*mean, further)]


def features(measured: Sequence[Sensitivity], names: Sequence[str]) -> Floats:
    """Their features (N, F)."""
    return np.array([feature_values(each, names) for each in measured]).reshape(-1, len(names))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="folder for fooled pictures")
    choice = parser.parse_args()
    encoders = [measured(CLIPScore(load_encoder(model)), "fit", choice.data, choice.work) for model in choice.models]
    versions = {package: version(package) for package in ("foclip", "torch", "scikit-learn")}
    provenance = {
        "encoders": [Path(model).name for model in choice.models],
        "steps": STEPS,
        "scenarios": sorted({row.scenario for row in encoders[0]} - {""}),
        "versions": versions,
    }
    found = Universals(fit(encoders, True), fit(encoders, False), provenance)
    files.write_text(SHIPPED, files.to_json(asdict(found)))


if __name__ == "__main__":
    main()
