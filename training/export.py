"""Write a trained model as a folder that open_clip loads with ``local-dir:``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer

from training.data import sha256
from training.tokenizer import save_tokenizer

LOADED = ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""Files that loading needs; their checksums are recorded."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Normalisation of pixels, the constants of every CLIP (Radford et al. 2021)."""


def export(model: CLIP, tokenizer: Tokenizer, model_cfg: dict[str, Any], folder: Path) -> None:
    """Write configuration, float16 weights and tokenizer to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "model_cfg": model_cfg,
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    weights = {
        name: value.detach().cpu().to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder, model_cfg["text_cfg"]["context_length"])


def write_checksums(embedded: Path) -> dict[str, str]:
    """Record the SHA-256 of every file that loading needs in ``embedded``/SHA256SUMS.json."""
    sums = {
        f"{folder.name}/{name}": sha256(folder / name)
        for folder in sorted(path for path in embedded.iterdir() if path.is_dir())
        for name in LOADED
        if (folder / name).exists()
    }
    (embedded / "SHA256SUMS.json").write_text(json.dumps(sums, indent=2) + "\n")
    return sums


if __name__ == "__main__":
    for name, digest in write_checksums(Path(__file__).parents[1] / "src/foclip/encoders/embedded").items():
        print(digest, name)
