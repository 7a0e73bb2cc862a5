#!/usr/bin/env bash
# open_clip_torch 3.3.0 with timm 1.0.31: `timm_proj: linear` and `mlp` make a projection as wide as timm's `num_features`,
# but timm's efficient towers (MobileNetV3 and V4, GhostNet, HGNetV2, EfficientViT, …) keep a wider hidden layer in the
# head that is left after `reset_classifier(0)`: timm calls that width `head_hidden_size`. The model is built, counted and
# saved without a word, and fails at its first picture. `timm_proj: ""`, where timm's own classifier projects, works.
#
# Seen (num_features, head_hidden_size, what a picture gives with "linear", and with ""):
#   mobilenetv3_small_100    576 1024 RuntimeError (1, 64)
#   mobilenetv4_conv_small   960 1280 RuntimeError (1, 64)
#   ghostnet_100             960 1280 RuntimeError (1, 64)
#   hgnetv2_b0              1024 2048 RuntimeError (1, 64)
#   efficientvit_b0          128 1280 RuntimeError (1, 64)
#   efficientnet_b0         1280 1280 (1, 64) (1, 64)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31 open_clip_torch==3.3.0
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from open_clip import CLIP


def seen(name, projection):
    tower = {"image_size": 224, "timm_model_name": name, "timm_pool": "avg", "timm_proj": projection}
    visual = CLIP(embed_dim=64, vision_cfg=tower, text_cfg={"width": 64, "heads": 1, "layers": 1}).visual.eval()
    try:
        with torch.no_grad():
            return tuple(visual(torch.rand(1, 3, 224, 224)).shape), visual.trunk
    except RuntimeError as error:
        assert "shapes cannot be multiplied" in str(error)
        return type(error).__name__, visual.trunk


wider = ["mobilenetv3_small_100", "mobilenetv4_conv_small", "ghostnet_100", "hgnetv2_b0", "efficientvit_b0"]
for name in [*wider, "efficientnet_b0"]:
    (linear, trunk), (own, _) = seen(name, "linear"), seen(name, "")
    print(f"{name:24} {trunk.num_features:4} {trunk.head_hidden_size} {linear} {own}")
    assert linear == ("RuntimeError" if name in wider else (1, 64)) and own == (1, 64)
PYTHON
