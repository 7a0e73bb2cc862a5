"""False alarms of the shipped detectors on clean photographs that calibration left out.

    python -m benchmarks.alarms [--data ../shared/data] [MODEL …]

Every method at two bounds, with prompts (ten artworks) and without; the interval is that of as many draws at
the bound, so a count inside it is what the bound allows.
"""

import argparse
from pathlib import Path
from typing import get_args

from scipy.stats import binom

from foclip.api import detect
from foclip.data.prompts import ARTWORKS
from foclip.detection import Method
from foclip.models import load_encoder
from training.detector import photographs

BOUNDS = (0.01, 0.05)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["mini", "mini-vit"], metavar="MODEL")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    choice = parser.parse_args()
    photos, _ = photographs(choice.data, "check")
    print(f"{'model':<12} {'method':<24} {'bound':>5} {'alarms':>6} {'of':>4}  95 % interval at the bound")
    for model in choice.models:
        encoder = load_encoder(model)
        for by in get_args(Method):
            for prompts in (ARTWORKS, None):
                for bound in BOUNDS:
                    found = detect(photos, prompts, model=encoder, method=by, fpr=bound)
                    predict = [row for row in found if row.verdict != "undecidable"]
                    low, high = binom.ppf([0.025, 0.975], len(predict), bound)
                    alarms = sum(row.tampered for row in predict)
                    print(
                        f"{model:<12} {predict[0].decided_by:<24} {bound:>5} {alarms:>6} {len(predict):>4}  "
                        f"{low:.0f} to {high:.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
