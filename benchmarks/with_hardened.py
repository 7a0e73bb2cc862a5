"""Detectors of clean pictures, with and without hardened encoders, beside the one that ships.

    python -m benchmarks.with_hardened [--data ../shared/data] --work DIR

`foclip calibrate` on 200 photographs of the half that fits (`training.universal`), for `mini` and `mini-vit`, alone and
with the hardened encoders that come with them (`--hardened`), at a bound of 2 %; and the detectors that ship, which
were made with these encoders by `--full`. What is caught of photographs that none of them was made of, fooled for their
own caption, and false alarms on the originals, as they are, saved as JPEG 85, and cropped by a little, by what was
fitted, and by more. Of the fooled ones those count whose score is still up by 0.05, of cropped ones by 0.1
(`benchmarks.detection`). Writes docs/figures/with-hardened.json; fooled pictures are kept in DIR, as
`benchmarks.universal` keeps them.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.calibrating import CLEAN, captioned
from benchmarks.common import Table
from benchmarks.detection import STILL_UP
from benchmarks.record import save
from benchmarks.universal import BOUND
from foclip.calibration import calibrate_on_clean
from foclip.calibration.examples import AS_IT_IS
from foclip.data import images
from foclip.data.prompts import Prompts
from foclip.detection import Detector, Prober, Sensitivity, hardened_scores
from foclip.detection.detector import shipped
from foclip.detection.probes import NO_HARDENED
from foclip.detection.scenarios import LEAST_RISE, Change, cropped
from foclip.models import embedded, load_encoder
from foclip.models.scores import CLIPScore
from training import detector as full
from training.universal import AGAIN, CHUNK, fooled

MODELS = ("mini", "mini-vit")
SCENARIOS = tuple(f"own caption, {db} dB" for db in (40, 45, 50))
CROPS: Mapping[str, Change] = {f"cropped to {percent} %": cropped(percent) for percent in (98, 95, 92, 90)}
STATES: Mapping[str, Change] = {AS_IT_IS: AGAIN[AS_IT_IS], "JPEG 85": AGAIN["JPEG 85"], **CROPS}
#: Photographs that are fooled. Those count that the detectors that ship have not seen either.
FOOLED = 200


def measured(
    prober: Prober, probes: Sequence[str], files: Sequence[tuple[Path, Prompts]], state: str
) -> list[Sensitivity]:
    """Sensitivities of files in a state, each with its prompts."""
    found: list[Sensitivity] = []
    coming = iter(files)
    while some := list(islice(coming, CHUNK)):
        views = [prober.preprocess(STATES[state](images.read(file))) for file, _ in some]
        found += prober.measure(views, [prompts for _, prompts in some], probes, captions=True)
    return found


def share(detector: Detector, pictures: Sequence[Sensitivity]) -> float:
    """The share of pictures that are called tampered."""
    return float(np.mean([detector.judge(each).verdict == "tampered" for each in pictures]))


def detectors(score: CLIPScore, data: Path) -> Iterator[tuple[str, Detector]]:
    """The detectors that are compared, with what they were made of."""
    twins = embedded.HARDENED[score.encoder.name]
    with tempfile.TemporaryDirectory() as folder:
        clean, captions = captioned(data, "fit", CLEAN, Path(folder))
        for names in ((), twins):
            made = calibrate_on_clean(clean, model=score, captions=captions, fpr=BOUND, hardened=names)
            yield ", ".join(["clean pictures", *names]), made.detector
    yield "the one that ships", shipped(score.encoder)


def main() -> None:
    """Print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    choice = parser.parse_args()
    unseen = {*full.photographs(choice.data, "check")[0]}
    table = Table()
    for model in MODELS:
        score = CLIPScore(load_encoder(model))
        made = fooled(score, "judge", choice.data, choice.work, FOOLED, SCENARIOS)
        files = {name: [row for row in rows if row[1] in unseen] for name, rows in made.items()}
        for name, detector in detectors(score, choice.data):
            prober = Prober(score, hardened_scores(score) if detector.hardened else NO_HARDENED)
            originals = {
                state: measured(prober, detector.probes, [(f, p) for _, f, p in files[SCENARIOS[0]]], state)
                for state in STATES
            }
            for state in STATES:
                least = STILL_UP / score.info.floor if state in CROPS else LEAST_RISE
                row: dict[str, object] = {"model": model, "detector": name, "file": state}
                told = {"clean": originals[state]}
                for scenario in SCENARIOS:
                    seen = measured(prober, detector.probes, [(f, p) for f, _, p in files[scenario]], state)
                    pairs = zip(seen, originals[AS_IT_IS], strict=True)
                    told[scenario] = [a for a, b in pairs if a.normalised_score - b.normalised_score >= least]
                for scenario, pictures in told.items():
                    row |= {scenario: share(detector, pictures), f"{scenario}, n": len(pictures)}
                    row[f"{scenario}, without prompts"] = share(detector, [each.without_prompts() for each in pictures])
                table.add(row)
    title = "Detectors of clean pictures, with hardened encoders and without, beside those that ship"
    every = [*MODELS, *(name for model in MODELS for name in embedded.HARDENED[model])]
    rests_on = ["universal", *MODELS]
    print(save("with-hardened", title, {"caught": table}, models=every, detectors=rests_on))


if __name__ == "__main__":
    main()
