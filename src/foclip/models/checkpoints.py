"""Which open_clip architecture a checkpoint file belongs to, by the shapes of its weights."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import open_clip
import torch
from safetensors import safe_open

from foclip.errors import EncoderError

Shapes = Mapping[str, tuple[int, ...]]


def architecture(path: Path) -> str:
    """The open_clip architecture whose weights have the shapes found in `path`; of X and X-quickgelu it is X.

    Raises:
        EncoderError: The file is damaged, holds more than weights, or fits no architecture.
    """
    shapes = _shapes(path)
    found = [name for name in open_clip.list_models() if _fits(open_clip.get_model_config(name), shapes)]
    if not found:
        raise EncoderError(
            f"{path}: no architecture of open_clip has these weights; if you know it, pass ARCHITECTURE/FILE"
        )
    best: str = min(found, key=lambda name: ("quickgelu" in name, len(name)))
    return best


def check(path: Path) -> None:
    """Refuse a file that is damaged, or holds no weights or more than weights, before a model is built for it."""
    if not _shapes(path):
        raise EncoderError(f"{path}: holds no weights by name; save the model's state_dict as safetensors")


def _shapes(path: Path) -> Shapes:
    """Shape of every tensor in a checkpoint, without running code from it."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        problem = "no weights-only checkpoint that can be read"
        if isinstance(error, UnpicklingError):
            problem = "refused, since it holds more than weights and loading it could run code, or is no checkpoint"
        raise EncoderError(f"{path}: {problem}; save the model's state_dict as safetensors") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    return {key.removeprefix("module."): tuple(value.shape) for key, value in state.items() if hasattr(value, "shape")}


def _fits(config: Mapping[str, Any], shapes: Shapes) -> bool:
    """Whether a model of this configuration has exactly these towers (own ViT and ResNet towers only)."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision or "hf_model_name" in text:
        return False
    prefix = "text." if config.get("custom_text") else ""
    width, embed = text.get("width", 512), config["embed_dim"]
    expected: dict[str, tuple[int, ...]] = {
        f"{prefix}token_embedding.weight": (text.get("vocab_size", 49408), width),
        f"{prefix}positional_embedding": (text.get("context_length", 77), width),
        f"{prefix}text_projection": (width, embed),
    }
    layers, base, size = vision["layers"], vision["width"], vision["image_size"]
    if isinstance(layers, list):
        expected["visual.conv1.weight"] = (base // 2, 3, 3, 3)
        expected["visual.attnpool.positional_embedding"] = ((size // 32) ** 2 + 1, base * 32)
        counts = {f"visual.layer{i}": n for i, n in enumerate(layers, start=1)}
    else:
        patch = vision["patch_size"]
        expected["visual.conv1.weight"] = (base, 3, patch, patch)
        expected["visual.positional_embedding"] = ((size // patch) ** 2 + 1, base)
        counts = {"visual.transformer.resblocks": layers}
    counts[f"{prefix}transformer.resblocks"] = text.get("layers", 12)
    blocks = {part: {key[len(part) :].split(".")[1] for key in shapes if key.startswith(f"{part}.")} for part in counts}
    return all(shapes.get(key) == shape for key, shape in expected.items()) and all(
        len(blocks[part]) == count for part, count in counts.items()
    )
