#!/usr/bin/env bash
# datasets 5.2.0: load_dataset("webdataset") takes the fields of a data set from its first five samples. What the sixth
# or a later one has besides is left out without an error or a warning: captions of a tar whose first five pictures have
# none, and keys of .json that come later. The other way round, a missing field is None, as one would expect.
#
# Seen:
#   captions from the 6th of 8 samples on: fields jpg; captions kept 0 of 3
#   captions of the first 5 of 8 samples: fields jpg txt; captions kept 5 of 5
#   "nsfw" in the .json from the 6th on: keys caption
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
(cd "$work" && HF_HOME="$work/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 venv/bin/python - <<'PYTHON'
import io
import json
import tarfile

import datasets
from PIL import Image

datasets.disable_progress_bars()


def loaded(name, samples):
    """A tar of these samples, each with a picture, as datasets loads it."""
    with tarfile.open(name, "w") as tar:
        for number, texts in enumerate(samples):
            picture = io.BytesIO()
            Image.new("RGB", (32, 32), (number, 0, 0)).save(picture, "JPEG")
            for suffix, content in {"jpg": picture.getvalue(), **texts}.items():
                member = tarfile.TarInfo(f"{number:04}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return datasets.load_dataset("webdataset", data_files=name, split="train")


def fields(data):
    return [name for name in data.features if not name.startswith("__")]


captions = [{"txt": f"caption {number}".encode()} for number in range(8)]
for says, samples in {
    "captions from the 6th of 8 samples on": [{}] * 5 + captions[5:],
    "captions of the first 5 of 8 samples": captions[:5] + [{}] * 3,
}.items():
    data = loaded(f"{says[-9:].replace(' ', '')}.tar", samples)
    kept = sum(row.get("txt") is not None for row in data)
    print(f"{says}: fields {' '.join(fields(data))}; captions kept {kept} of {sum(map(bool, samples))}")
    assert ("txt" in data.features) == bool(samples[0]), "fields are found otherwise now"
    assert kept == (5 if samples[0] else 0)
samples = [{"json": json.dumps({"caption": "c"} | ({"nsfw": 1} if number >= 5 else {})).encode()} for number in range(8)]
keys = list(loaded("json.tar", samples)[7]["json"])
print(f'"nsfw" in the .json from the 6th on: keys {" ".join(keys)}')
assert keys == ["caption"]
PYTHON
)
