#!/usr/bin/env bash
# webdataset 1.0.2: TarWriter takes any __key__ and writes it as the beginning of a file name; WebDataset takes a key to
# end at the first dot. So samples whose keys hold a dot and are alike up to it (dates, versions, paths of cameras) are
# written without a word and come back as one sample, whose fields are none of those that were written.
#
# Seen:
#   written: 3 samples, 2021.05.01 2021.05.02 2021.05.03, fields cls and txt
#   read: 1 sample, 2021, fields 05.01.cls 05.01.txt 05.02.cls 05.02.txt 05.03.cls 05.03.txt
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q webdataset==1.0.2 numpy==2.4.6
(cd "$work" && venv/bin/python - <<'PYTHON'
import webdataset

keys = ["2021.05.01", "2021.05.02", "2021.05.03"]
with webdataset.TarWriter("a.tar") as writer:
    for key in keys:
        writer.write({"__key__": key, "txt": f"caption of {key}", "cls": key[-1]})
print(f"written: {len(keys)} samples, {' '.join(keys)}, fields cls and txt")
samples = list(webdataset.WebDataset("a.tar", shardshuffle=False))
for sample in samples:
    fields = sorted(name for name in sample if not name.startswith("__"))
    print(f"read: {len(samples)} sample, {sample['__key__']}, fields {' '.join(fields)}")
assert [sample["__key__"] for sample in samples] == ["2021"], "keys come back otherwise now"
assert "txt" not in samples[0]
PYTHON
)
