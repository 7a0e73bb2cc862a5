"""What hardened encoders add to a detector of clean pictures: ``python -m benchmarks.with_hardened --work DIR``.

`foclip calibrate` on 200 photographs of the half that fits (`training.universal`), for `mini` and `mini-vit`, alone and
with the hardened encoders that come with them (`--hardened`), at a bound of 2 %. What is caught of photographs of the
other half, fooled for their own caption, and false alarms on the originals, as they are, saved as JPEG 85, and cropped.
Writes docs/figures/with-hardened.json; fooled pictures are kept in DIR, as `benchmarks.universal` keeps them.
"""

import argparse
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.calibrating import CLEAN, captioned
from benchmarks.common import Table
from benchmarks.record import save
from benchmarks.universal import BOUND
from foclip.calibration import calibrate_on_clean
from foclip.calibration.examples import AS_IT_IS
from foclip.data import images
from foclip.data.prompts import Prompts
from foclip.detection import Detector, Prober, Sensitivity, hardened_scores
from foclip.detection.probes import NO_HARDENED
from foclip.detection.scenarios import CROPPED, LEAST_RISE
from foclip.models import embedded, load_encoder
from foclip.models.scores import CLIPScore
from training.universal import AGAIN, CHUNK, fooled

MODELS = ("mini", "mini-vit")
SCENARIOS = tuple(f"own caption, {db} dB" for db in (40, 45, 50))
STATES = (AS_IT_IS, "JPEG 85", CROPPED)
#: Photographs that are fooled.
FOOLED = 60


def measured(
    prober: Prober, probes: Sequence[str], files: Sequence[tuple[Path, Prompts]], state: str
) -> list[Sensitivity]:
    """Sensitivities of files in a state, each with its prompts."""
    found: list[Sensitivity] = []
    coming = iter(files)
    while some := list(islice(coming, CHUNK)):
        views = [prober.preprocess(AGAIN[state](images.read(file))) for file, _ in some]
        found += prober.measure(views, [prompts for _, prompts in some], probes, captions=True)
    return found


def share(detector: Detector, pictures: Sequence[Sensitivity]) -> float:
    """The share of pictures that are called tampered."""
    return float(np.mean([detector.judge(each).verdict == "tampered" for each in pictures]))


def main() -> None:
    """Print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    choice = parser.parse_args()
    table = Table()
    for model in MODELS:
        score = CLIPScore(load_encoder(model))
        files = fooled(score, "judge", choice.data, choice.work, FOOLED, SCENARIOS)
        for names in ((), embedded.HARDENED[model]):
            hardened = hardened_scores(score, names) if names else NO_HARDENED
            with tempfile.TemporaryDirectory() as folder:
                clean, captions = captioned(choice.data, "fit", CLEAN, Path(folder))
                found = calibrate_on_clean(clean, model=score, captions=captions, fpr=BOUND, hardened=names)
            detector, prober = found.detector, Prober(score, hardened)
            originals = {
                state: measured(prober, detector.probes, [(f, p) for _, f, p in files[SCENARIOS[0]]], state)
                for state in STATES
            }
            for state in STATES:
                row: dict[str, object] = {"model": model, "with": ", ".join(names) or "none", "file": state}
                told = {"clean": originals[state]}
                for name in SCENARIOS:
                    seen = measured(prober, detector.probes, [(f, p) for f, _, p in files[name]], state)
                    pairs = zip(seen, originals[AS_IT_IS], strict=True)
                    told[name] = [a for a, b in pairs if a.normalised_score - b.normalised_score >= LEAST_RISE]
                for name, pictures in told.items():
                    row |= {name: share(detector, pictures), f"{name}, n": len(pictures)}
                    row[f"{name}, without prompts"] = share(detector, [each.without_prompts() for each in pictures])
                table.add(row)
    title = "What hardened encoders add to a detector of clean pictures"
    every = [*MODELS, *(name for model in MODELS for name in embedded.HARDENED[model])]
    print(save("with-hardened", title, {"caught": table}, models=every, detectors=["universal"]))


if __name__ == "__main__":
    main()
