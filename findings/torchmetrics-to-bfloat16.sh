#!/usr/bin/env bash
# torchmetrics 1.9.0 (torch 2.13.0): "Dtype conversion is guarded and will only happen through the special `set_dtype`
# method" (docstring of Metric._apply), and .bfloat16(), .half() and .float() of a metric, or of a module that holds it,
# leave its sums alone. But .to(torch.bfloat16) does not, and that is what Lightning's precision "bf16-true" calls. A
# sum in bfloat16 stops to grow after some hundred batches, while the count of pixels, an integer, goes on: PSNR of equal
# batches rises by several decibels.
#
# Seen, PSNR after 10 and 3,000 batches that are all the same:
#   as it is            10.46 10.46 torch.float32
#   .bfloat16()         10.46 10.46 torch.float32
#   .to(torch.bfloat16) 10.45 18.46 torch.bfloat16
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import torch
from torchmetrics.image import PeakSignalNoiseRatio

batch = torch.full((1, 3, 8, 8), 0.3), torch.zeros(1, 3, 8, 8)
casts = {
    "as it is": lambda module: module,
    ".bfloat16()": lambda module: module.bfloat16(),
    ".to(torch.bfloat16)": lambda module: module.to(torch.bfloat16),
}
found = {}
for name, cast in casts.items():
    metric = cast(torch.nn.ModuleList([PeakSignalNoiseRatio(data_range=1.0)]))[0]
    values = []
    for number in range(1, 3001):
        metric.update(*batch)
        if number in (10, 3000):
            values.append(float(metric.compute()))
    found[name] = values
    print(f"{name:<19} {values[0]:.2f} {values[1]:.2f} {metric.sum_squared_error.dtype}")
first = found["as it is"][0]
assert all(abs(value - first) < 0.01 for name in ("as it is", ".bfloat16()") for value in found[name])
assert found[".to(torch.bfloat16)"][1] > first + 3, "sums stay in float32 now"
PYTHON
