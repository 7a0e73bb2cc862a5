"""How far scores are pushed whose weights need a download: over tiny models of their families with random weights.

    python -m benchmarks.untrained PHOTOS

The study `pushed`, for `siglip` and `blip-itm`. What these models see means nothing, so the figures say one thing: that
the gradient reaches the written file through each family's own preprocessing, text tower and formula.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks import record

sys.path.append(str(record.ROOT / "tests"))  # the test suite writes the same models

import families

TITLE = "Pushed: scores over tiny models with random weights"
#: The score over each family of models, and its weights' kind.
SCORES = {"siglip": "siglip", "blip-itm": "blip"}
BUDGET = 40


def pushed(score: str, photos: Path, work: Path) -> dict[str, object]:
    """A row: what the study finds within `BUDGET` dB."""
    model, out = families.write(SCORES[score], work / score), work / f"{score}-out"
    study = ["reproduce", "pushed", "--quick", "--images", photos, "--score", score, "--model", model, "--out", out]
    subprocess.run([sys.executable, "-m", "foclip", *map(str, study)], check=True)
    rows = pd.read_parquet(out / "pushed" / "table.parquet").query("scored_by == @score and budget == @BUDGET")
    first = rows.iloc[0]
    return {
        **{"score": score, "pictures": len(rows), "clean photographs": int(first.clean)},
        **{"clean mean": first.clean_mean, "clean deviation": first.clean_deviation},
        **{"before": rows.before.mean(), "after": rows.score.mean()},
        **{"rise / standard deviations": rows.rise.mean(), "least": rows.rise.min(), "most possible": rows.most.mean()},
    }


def main() -> None:
    """Print and record a row for each score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of at least 216 photographs")
    photos = parser.parse_args().photos
    with tempfile.TemporaryDirectory() as work:
        rows = [pushed(score, photos, Path(work)) for score in SCORES]
    print(pd.DataFrame(rows).to_string(index=False))
    record.save("untrained", TITLE, {"rows": rows})


if __name__ == "__main__":
    main()
