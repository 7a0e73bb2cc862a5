"""What a detector for an encoder costs that has none: ``python -m benchmarks.calibrating [--data ../shared/data]``.

`foclip calibrate` on 200 photographs with `mini`, and `foclip detect` on 48 others with a ViT-B-32 of random weights in
a checkpoint file, without any calibration; each photograph has its own caption. Processor seconds are those of the
whole command, with one thread. Writes docs/figures/calibrate-cost.json.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path

import open_clip
import torch

from benchmarks.common import Table
from benchmarks.record import save
from benchmarks.startup import spent
from training.universal import photographs

#: Photographs of each command, and the architecture of random weights.
CLEAN, JUDGED, ARCHITECTURE = 200, 48, "ViT-B-32"


def captioned(data: Path, part: str, count: int, folder: Path) -> tuple[list[str], str]:
    """Photographs of a part, and a table of their captions, which is written to the folder."""
    files, captions = photographs(data, part)
    files, table = files[:count], folder / f"{part}.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("image", "caption"), *zip((f.name for f in files), captions, strict=False)])
    return [*map(str, files)], str(table)


def main() -> None:
    """Print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    choice = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, captions = captioned(choice.data, "fit", CLEAN, folder)
        clean = [word for file in files for word in ("--clean", file)]
        written = ["--out", str(folder / "detector.json")]
        seconds, told = spent("-m", "foclip", "calibrate", *clean, "--captions", captions, *written, "--json")
        passes = json.loads(told)["passes_per_picture"]
        told_of = {"command": "calibrate", "model": "mini", "photographs": CLEAN}
        table.add({**told_of, "passes a picture": passes, "processor seconds": seconds})
        torch.manual_seed(0)
        torch.save(open_clip.create_model(ARCHITECTURE).state_dict(), folder / "random.pt")
        model = ["--model", f"{ARCHITECTURE}/{folder / 'random.pt'}"]
        files, captions = captioned(choice.data, "judge", JUDGED, folder)
        seconds, told = spent("-m", "foclip", "detect", *files, "--captions", captions, *model, "--json")
        called = sum(row["verdict"] == "tampered" for row in json.loads(told))
        told_of = {"command": "detect", "model": ARCHITECTURE, "photographs": JUDGED}
        table.add({**told_of, "tampered": called, "processor minutes": seconds / 60})
    title = "What calibrating and judging a folder costs"
    print(save("calibrate-cost", title, {"cost": table}, models=["mini"], detectors=["universal"], attacked=False))


if __name__ == "__main__":
    main()
