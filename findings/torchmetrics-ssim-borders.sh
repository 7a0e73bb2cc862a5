#!/usr/bin/env bash
# torchmetrics 1.9.0 (torch 2.13.0): StructuralSimilarityIndexMeasure pads pictures by reflection and takes the mean over
# all places. Wang et al. (2004) and scikit-image take it over windows that lie within the picture. For a gray picture
# of 32 × 32 pixels with a black frame of one pixel this is 0.4985 instead of 0.9601. The same function leaves out the
# borders where it returns the contrast sensitivity as well: that is 0.9601.
#
# Seen:
#   torchmetrics 0.4985, scikit-image 0.9601
#   SSIM within the borders 0.9601, contrast sensitivity as torchmetrics returns it 0.9601
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 torchmetrics==1.9.0 scikit-image==0.26.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

gray = np.full((32, 32), 128, dtype=np.uint8)
framed = np.zeros_like(gray)
framed[1:-1, 1:-1] = 128
pair = [torch.tensor(picture)[None, None].double() for picture in (framed, gray)]
theirs, places = structural_similarity_index_measure(*pair, data_range=255.0, return_full_image=True)
_, contrast = structural_similarity_index_measure(*pair, data_range=255.0, return_contrast_sensitivity=True)
reference = structural_similarity(
    framed, gray, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
)
within = places[..., 5:-5, 5:-5].mean()
print(f"torchmetrics {float(theirs):.4f}, scikit-image {reference:.4f}")
print(f"SSIM within the borders {float(within):.4f}, contrast sensitivity as torchmetrics returns it {float(contrast):.4f}")
assert abs(float(theirs) - 0.4985) < 1e-3, "the mean is over other places now"
assert abs(reference - 0.9601) < 1e-3 and abs(float(within) - reference) < 1e-3
assert float(contrast) > 0.9, "the contrast sensitivity counts the borders now"
PYTHON
