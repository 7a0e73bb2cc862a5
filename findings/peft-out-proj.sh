#!/usr/bin/env bash
# peft 0.21.2 with open_clip_torch 3.3.0 (torch 2.14.1): LoRA on "out_proj", the usual target besides q, k and v, is taken
# by the attention layers of open_clip's towers and trains nothing. torch.nn.MultiheadAttention reads the weight of
# out_proj and never calls it, so the adapter has no part in the pass and no gradient. Merging adds it all the same: where
# its weights are not zero, the merged model computes something else than the one that was evaluated. peft counts the
# weights as trainable, and no warning is given. LoRA on the whole attention ("attn") is handled.
#
# Seen, image tower of two layers:
#   c_proj: adapters with a gradient 4 of 4
#   out_proj: adapters with a gradient 0 of 4
#   embedding before and after merge_and_unload differs: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0 peft==0.21.2
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from open_clip.model import CLIP
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
tower = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
text = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
model = CLIP(embed_dim=16, vision_cfg=tower, text_cfg=text).eval()
pictures = torch.rand(2, 3, 32, 32)
adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["c_proj", "out_proj"], init_lora_weights=False))
adapted.base_model.model.encode_image(pictures).sum().backward()
found = {"c_proj": [], "out_proj": []}
for name, weight in adapted.named_parameters():
    if weight.requires_grad and ".visual." in name:
        found["out_proj" if "out_proj" in name else "c_proj"].append(weight.grad is not None)
for name, each in found.items():
    print(f"{name}: adapters with a gradient {sum(each)} of {len(each)}")
assert all(found["c_proj"]) and not any(found["out_proj"]), "out_proj is adapted now"
with torch.no_grad():
    before = adapted.base_model.model.encode_image(pictures)
    after = adapted.merge_and_unload().encode_image(pictures)
differs = not torch.allclose(before, after, atol=1e-3)
print(f"embedding before and after merge_and_unload differs: {differs}")
assert differs
PYTHON
