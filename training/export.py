"""Write a trained model as a folder that open_clip loads with ``local-dir:``, or a hardened image tower alone."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from foclip.models import embedded
from foclip.models.embedded import TOWER
from training.data import sha256
from training.tokenizer import save_tokenizer

LOADED = ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json", TOWER)
"""Files that loading needs; their checksums are recorded."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Normalisation of pixels, the constants of every CLIP (Radford et al. 2021)."""


def export_model(model: CLIP, tokenizer: Tokenizer, model_cfg: dict[str, Any], folder: Path) -> None:
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


def write_checksums(root: Path) -> dict[str, str]:
    """Record the SHA-256 of every file that loading needs in ``root``/SHA256SUMS.json."""
    sums = {
        f"{folder.name}/{name}": sha256(folder / name)
        for folder in sorted(path for path in root.iterdir() if path.is_dir())
        for name in LOADED
        if (folder / name).exists()
    }
    (root / "SHA256SUMS.json").write_text(json.dumps(sums, indent=2) + "\n")
    return sums


def export_tower(hardened: Path, folder: Path) -> None:
    """Write the image tower of a hardened encoder, as ``foclip harden`` made it, with its card and how it was made."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = load_file(hardened / "open_clip_model.safetensors")
    tower = {key.removeprefix("visual."): value for key, value in weights.items() if key.startswith("visual.")}
    save_file(tower, folder / TOWER, metadata={"format": "pt"})
    (folder / TOWER).chmod(0o644)
    for name in ("README.md", "training.json"):
        shutil.copyfile(hardened / name, folder / name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Checksums of the embedded encoders; first, one may be added.")
    parser.add_argument("--hardened", type=Path, help="folder that foclip harden wrote, to be embedded as NAME")
    parser.add_argument("--name", help="its name; its original is in embedded.ORIGINALS")
    choice = parser.parse_args()
    if choice.hardened:
        export_tower(choice.hardened, embedded.path(choice.name))
    for name, digest in write_checksums(embedded.FOLDER).items():
        print(digest, name)


if __name__ == "__main__":
    main()
