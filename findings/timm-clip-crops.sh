#!/usr/bin/env bash
# timm 1.0.31: the same OpenAI weights come with another preprocessing than CLIP's own, and not all alike. timm resizes
# the short side to 1/0.9 of the input and then crops, for CLIP's ViT-B/32, ViT-B/16 and RN50 and for SigLIP, which
# squashes; for ViT-L/14 it crops nothing, as CLIP does. So create_transform(**resolve_data_config(...)) shows a B/32
# tower a tenth less of each side of the picture than it was trained and is evaluated with.
#
# Seen, crop_pct and interpolation (CLIP: 1.0 bicubic for all):
#   vit_base_patch32_clip_224.openai    0.9 bicubic
#   vit_base_patch16_clip_224.openai    0.9 bicubic
#   resnet50_clip.openai                0.9 bicubic
#   vit_large_patch14_clip_224.openai   1.0 bicubic
#   vit_large_patch14_clip_336.openai   1.0 bicubic
#   vit_base_patch16_siglip_224.webli   0.9 bicubic
#   a picture of 448 x 448 with a frame of 14 pixels, through B/32's transform: frame seen False, through L/14's: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - <<'PYTHON'
import timm
from PIL import Image
from timm.data import create_transform, resolve_data_config

names = [
    "vit_base_patch32_clip_224.openai",
    "vit_base_patch16_clip_224.openai",
    "resnet50_clip.openai",
    "vit_large_patch14_clip_224.openai",
    "vit_large_patch14_clip_336.openai",
    "vit_base_patch16_siglip_224.webli",
]
crops = []
for name in names:
    known = timm.get_pretrained_cfg(name)
    crops.append(known.crop_pct)
    print(f"{name:35} {known.crop_pct} {known.interpolation}")
assert crops == [0.9, 0.9, 0.9, 1.0, 1.0, 0.9], "crops are others now"
framed = Image.new("RGB", (448, 448), "white")
framed.paste("black", (14, 14, 434, 434))
seen = []
for name in (names[0], names[3]):
    settings = resolve_data_config(timm.get_pretrained_cfg(name).to_dict())
    seen.append(bool(create_transform(**settings)(framed).max() > 0))
print("a picture of 448 x 448 with a frame of 14 pixels, through B/32's transform: "
      f"frame seen {seen[0]}, through L/14's: {seen[1]}")
assert seen == [False, True]
PYTHON
