#!/usr/bin/env bash
# webdataset 1.0.2: members of a tar whose names have no dot are passed over without a word, also where a caption of the
# same name follows. Pictures of an object store are often called by their ids alone; of a tar of them nothing is left,
# or captions without pictures.
#
# Seen:
#   members: 0001 0001.txt 0002 0002.txt 0003.jpg 0003.txt
#   read: 0001 (txt) 0002 (txt) 0003 (jpg txt)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q webdataset==1.0.2 numpy==2.4.6 pillow==13.0.0
(cd "$work" && venv/bin/python - <<'PYTHON'
import io
import tarfile

import webdataset
from PIL import Image

picture = io.BytesIO()
Image.new("RGB", (32, 32)).save(picture, "JPEG")
members = {name: picture.getvalue() if "txt" not in name else b"a caption" for name in
           ("0001", "0001.txt", "0002", "0002.txt", "0003.jpg", "0003.txt")}
with tarfile.open("a.tar", "w") as tar:
    for name, content in members.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
print("members:", *members)
found = {
    sample["__key__"]: sorted(name for name in sample if not name.startswith("__"))
    for sample in webdataset.WebDataset("a.tar", shardshuffle=False)
}
print("read:", *(f"{key} ({' '.join(fields)})" for key, fields in found.items()))
assert found == {"0001": ["txt"], "0002": ["txt"], "0003": ["jpg", "txt"]}, "members are read otherwise now"
PYTHON
)
