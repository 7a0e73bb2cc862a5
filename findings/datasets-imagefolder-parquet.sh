#!/usr/bin/env bash
# datasets 5.2.0: a folder of pictures that is loaded with "imagefolder" and written with Dataset.to_parquet makes a file
# without one pixel: the bytes of each picture are null, and its path is that on the machine that wrote it. After the
# file, or the folder, is moved, it loads without an error until a picture is looked at. The same pictures, given as
# bytes, are in the file.
#
# Seen:
#   imagefolder: bytes null True, path absolute True
#   after the folder is moved: FileNotFoundError
#   given as bytes: bytes null False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q datasets==5.2.0 pillow==12.3.0 numpy==2.4.6
(cd "$work" && HF_HOME="$work/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 venv/bin/python - <<'PYTHON'
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as parquet
from PIL import Image

datasets.disable_progress_bars()
Path("pictures").mkdir()
Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save("pictures/a.png")
loaded = datasets.load_dataset("imagefolder", data_dir="pictures", split="train")
loaded.to_parquet("out.parquet")
(row,) = parquet.read_table("out.parquet").to_pylist()
null, absolute = row["image"]["bytes"] is None, Path(row["image"]["path"]).is_absolute()
print(f"imagefolder: bytes null {null}, path absolute {absolute}")
held = [{"bytes": Path("pictures/a.png").read_bytes(), "path": "a.png"}]
given = datasets.Dataset.from_dict({"image": held}).cast_column("image", datasets.Image())
given.to_parquet("given.parquet")
(other,) = parquet.read_table("given.parquet").to_pylist()
Path("pictures").rename("moved")
again = datasets.load_dataset("parquet", data_files="out.parquet", split="train")
try:
    again[0]
    gone = "no error"
except Exception as error:
    gone = type(error).__name__
print(f"after the folder is moved: {gone}")
print(f"given as bytes: bytes null {other['image']['bytes'] is None}")
assert null and absolute, "pictures are embedded now"
assert gone == "FileNotFoundError" and other["image"]["bytes"] is not None
PYTHON
)
