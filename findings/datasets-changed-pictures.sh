#!/usr/bin/env bash
# datasets 5.2.0: of a PIL picture that was opened from a file, the column Image stores that file, not the pixels. What
# was changed in place (paste, putpixel, thumbnail) is lost without a word, in Dataset.from_dict as in map, so a data set
# of attacked pictures holds the originals. A picture that was opened from bytes is stored as its pixels, but in the
# format that it came in: a JPEG is saved again at Pillow's quality, and even an unchanged one gets other pixels.
# Image.fromarray and convert make pictures without a file and a format, which are stored as PNG.
#
# Seen:
#   opened from a file, changed in place: stored pixels are the change's False, the file's True
#   the same in map: stored pixels are the change's False, the file's True
#   thumbnail of 32 x 24: stored 128 x 96
#   JPEG opened from bytes, unchanged: largest difference 17
#   Image.fromarray: largest difference 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
(cd "$work" && HF_HOME="$work/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 venv/bin/python - <<'PYTHON'
import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

datasets.disable_progress_bars()
noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
picture = Image.fromarray(noise).resize((128, 96), Image.Resampling.BICUBIC)
picture.save("a.png")
picture.save("a.jpg", quality=95)
original = np.array(Image.open("a.png"))


def stored(image):
    """A picture as a data set gives it back."""
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset.from_dict({"image": [image]}, features=features)[0]["image"]


def change(image):
    image.load()
    image.paste((255, 0, 0), (0, 0, 50, 50))
    return image


def told(says, found):
    changed = np.array_equal(np.array(found), np.array(change(Image.open("a.png"))))
    same = np.array_equal(np.array(found), original)
    print(f"{says}: stored pixels are the change's {changed}, the file's {same}")
    assert same and not changed, "changes are kept now"


told("opened from a file, changed in place", stored(change(Image.open("a.png"))))
data = datasets.Dataset.from_dict({"image": ["a.png"]}).cast_column("image", datasets.Image())
told("the same in map", data.map(lambda row: {"image": change(row["image"])})[0]["image"])
small = Image.open("a.png")
small.thumbnail((32, 32))
print("thumbnail of %d x %d: stored %d x %d" % (*small.size, *(size := stored(small).size)))
assert size == (128, 96)
differences = []
for says, image in {
    "JPEG opened from bytes, unchanged": Image.open(io.BytesIO(Path("a.jpg").read_bytes())),
    "Image.fromarray": Image.fromarray(np.array(Image.open("a.jpg"))),
}.items():
    differences.append(int(np.abs(np.array(stored(image)).astype(int) - np.array(image)).max()))
    print(f"{says}: largest difference {differences[-1]}")
assert differences[0] > 4 and differences[1] == 0
PYTHON
)
