"""A hardened encoder as a folder that open_clip loads with `local-dir:` and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file

from foclip import files
from foclip.errors import EncoderError
from foclip.models import OpenClipEncoder, checkpoints, embedded

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
#: Files of an original's folder that belong to its tokenizer.
TOKENIZER = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "*.model")


def model_config(encoder: OpenClipEncoder) -> dict[str, Any]:
    """open_clip's configuration of an encoder's architecture, by the name it was loaded by.

    Raises:
        EncoderError: The architecture cannot be told from the name.
    """
    name = encoder.name
    found: dict[str, Any] | None = None
    if (folder := _folder(name)) is not None:
        name = f"local-dir:{folder}"
    if name.startswith(("local-dir:", "hf-hub:")):
        found = open_clip.get_model_config(name)
    elif Path(name).is_file():
        found = open_clip.get_model_config(checkpoints.architecture(Path(name)) or "")
    else:
        known, parts = set(open_clip.list_models()), name.split("/")
        heads = ("-".join(parts[:count]) for count in range(len(parts), 0, -1))
        found = next((open_clip.get_model_config(head) for head in heads if head in known), None)
    if found is None:
        raise EncoderError(f"{encoder.name}: cannot be hardened, its architecture has no name in open_clip")
    if any(type(module).__name__ == "QuickGELU" for module in encoder.model.modules()):
        found["quick_gelu"] = True  # a tag may ask for it where the architecture's name does not say so
    return found


def export(encoder: OpenClipEncoder, tower: torch.nn.Module, config: dict[str, Any], folder: Path, half: bool) -> None:
    """Write the original with another image tower.

    Args:
        encoder: The original; text tower, tokenizer and preprocessing are its.
        tower: The hardened image tower (`model.visual`).
        config: From `model_config`.
        folder: An existing folder.
        half: Write float16 weights.
    """
    preprocessing = open_clip.get_model_preprocess_cfg(encoder.model)
    kept = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    settings = {
        "model_cfg": config,
        "preprocess_cfg": {key: preprocessing[key] for key in kept if key in preprocessing},
    }
    files.write_text(folder / CONFIG, json.dumps(settings, indent=2) + "\n")
    weights = encoder.model.state_dict() | {f"visual.{key}": value for key, value in tower.state_dict().items()}
    save_file(
        {
            # A tensor of its own each: safetensors refuses those that share memory.
            key: value.detach().cpu().to(_dtype(value, half), memory_format=torch.contiguous_format, copy=True)
            for key, value in weights.items()
        },
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    (folder / WEIGHTS).chmod(0o644)
    if (source := _folder(encoder.name)) is not None:
        for file in {file for pattern in TOKENIZER for file in source.glob(pattern) if file.is_file()}:
            shutil.copyfile(file, folder / file.name)
    elif isinstance(encoder.tokenizer, HFTokenizer):
        # With `local-dir:`, open_clip takes such a tokenizer from the folder, whatever name the configuration has.
        encoder.tokenizer.save_pretrained(folder)


def _dtype(value: torch.Tensor, half: bool) -> torch.dtype:
    return torch.float16 if half and value.is_floating_point() else value.dtype


def _folder(name: str) -> Path | None:
    """The folder an encoder was loaded from, if it was."""
    if name in embedded.names():
        return embedded.path(embedded.ORIGINALS.get(name, name))
    return Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else None
