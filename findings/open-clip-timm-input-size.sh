#!/usr/bin/env bash
# open_clip_torch 3.3.0 with timm 1.0.31: `image_size` of a model whose image tower is timm's does not reach timm. The
# trunk is made for the size of its timm configuration (224), while `visual.image_size` and the preprocessing made of it
# have the size that was asked for. Convolutional towers take any size, so nothing is noticed; towers with positions of
# their own refuse the very input that the model's own preprocessing makes. open_clip's own vision transformer is built
# for the size. `set_input_size` mends it where timm's tower has that method, and does nothing where it has not (LeViT).
#
# Seen, with image_size 96 (image_size of the tower; what a picture of 96 x 96 gives; the same after set_input_size):
#   open_clip's own ViT     (96, 96)  (1, 64)
#   vit_tiny_patch16_224    (96, 96)  AssertionError: Input height (96) doesn't match model (224).   (1, 64)
#   levit_128s              (96, 96)  RuntimeError: The size of tensor a (36) must match the size of tensor b (196) …, twice
#   convnext_atto           (96, 96)  (1, 64)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31 open_clip_torch==3.3.0
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from open_clip import CLIP

text = {"width": 64, "heads": 1, "layers": 1}
towers = {
    "open_clip's own ViT": {"layers": 1, "width": 64, "patch_size": 16},
    **{
        name: {"timm_model_name": name, "timm_pool": "", "timm_proj": "linear"}
        for name in ("vit_tiny_patch16_224", "levit_128s", "convnext_atto")
    },
}
picture = torch.rand(1, 3, 96, 96)


def tried(call):
    try:
        with torch.no_grad():
            return tuple(call().shape)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


found = {}
for name, tower in towers.items():
    visual = CLIP(embed_dim=64, vision_cfg={"image_size": 96, **tower}, text_cfg=text).visual.eval()

    def resized():
        visual.set_input_size((96, 96))
        return visual(picture)

    found[name] = tried(lambda: visual(picture))
    again = tried(resized) if "timm_model_name" in tower and found[name] != (1, 64) else ""
    print(f"{name:23} {visual.image_size} {found[name]} {again}")
    assert tuple(visual.image_size) == (96, 96)
    if again:
        assert again == ((1, 64) if name.startswith("vit") else found[name]), again
assert found["open_clip's own ViT"] == found["convnext_atto"] == (1, 64)
assert found["vit_tiny_patch16_224"].startswith("AssertionError") and found["levit_128s"].startswith("RuntimeError")
PYTHON
