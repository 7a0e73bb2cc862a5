"""Checkpoints of open_clip's models: whose weights a file holds, and a model written with another image tower.

What is written is a folder that open_clip loads with `local-dir:` and nothing else.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isqrt
from os.path import commonprefix
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foclip import files
from foclip.errors import CheckpointWarning, EncoderError

if TYPE_CHECKING:
    from foclip.models.open_clip import OpenClipEncoder

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
#: Where trainers keep the weights in what they save; anything else counts if it is the only one that holds weights.
IN = ("state_dict", "model", "model_state_dict")
#: The names that weights of a text tower begin with, and of those one that every text tower of open_clip's own has.
TEXT, TOKENS = ("text.", "text_encoder.", "token_embedding."), "token_embedding.weight"
#: What the index of weights in several files ends with.
SHARDS = ".safetensors.index.json"
#: Files of a model's folder that belong to its tokenizer.
TOKENIZER = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "*.model")
#: What open_clip says of the preprocessing of pretrained weights.
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")
#: Types of weights that cannot be trained.
QUANTISED = {torch.int8, torch.uint8, torch.qint8, torch.quint8}

#: Writes an encoder with another image tower to an existing folder, with float16 weights or with those of the tower.
Exporter = Callable[[nn.Module, Path, bool], None]
Shapes = Mapping[str, tuple[int, ...]]


def architecture(path: Path) -> str:
    """The open_clip architecture whose weights have the shapes found in `path`; of X and X-quickgelu it is X."""
    if not (found := _architectures(_checked(path))):
        raise EncoderError(
            f"{path}: no architecture of open_clip has these weights; if you know it, pass ARCHITECTURE/FILE"
        )
    return found[0]


def options(architecture: str, path: Path, tag: str | None = None) -> dict[str, Any]:
    """What `open_clip.create_model` is to be told of a checkpoint: its own sizes, and its architecture's preprocessing.

    With a `tag`, preprocessing and activation are those of the weights of that tag. An `EncoderError` refuses a file
    that is damaged, holds no weights or more than weights, is an image tower alone or of another architecture; and,
    without a tag, an architecture whose pretrained weights do not all have one preprocessing.
    """
    shapes = _checked(path)
    names = open_clip.list_pretrained_tags_by_model(architecture)
    tags = [open_clip.get_pretrained_cfg(architecture, name) for name in ([tag] if tag else names)]
    ways = [{key: each[key] for key in PREPROCESSING if key in each} for each in tags]
    if any(way != ways[0] for way in ways):
        raise EncoderError(
            f"{path}: weights of {architecture} are prepared for in more than one way; say as which: pass "
            f"{architecture}/TAG/FILE, with a TAG of {', '.join(names)}"
        )
    found: dict[str, Any] = {"force_preprocess_cfg": ways[0]} if ways else {}
    if tag and tags[0].get("quick_gelu"):
        found["force_quick_gelu"] = True
    config = open_clip.get_model_config(architecture)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if (
        "logit_bias" in shapes and "init_logit_bias" not in config
    ):  # trained with SigLIP's loss; of no weight in a score
        found["init_logit_bias"] = 0.0
    places, patch = shapes.get("visual.positional_embedding"), vision.get("patch_size")
    if places and isqrt(places[0] - 1) ** 2 != places[0] - 1:
        raise EncoderError(f"{path}: its image tower looks at {places[0] - 1} patches, which make no square picture")
    if places and patch and (size := isqrt(places[0] - 1) * patch) // patch != vision["image_size"] // patch:
        found["force_image_size"] = size
    places = shapes.get("positional_embedding", shapes.get("text.positional_embedding"))
    if places and (context := places[0] - bool(text.get("embed_cls"))) != text.get("context_length", 77):
        found["force_context_length"] = context
    if places and "hf_model_name" not in text and places[1] != (width := text.get("width", 512)):
        others = "".join(f"; they fit {other}" for other in _architectures(shapes)[:1])
        raise EncoderError(
            f"{path}: the weights do not fit {architecture}: their text tower is {places[1]} wide, not {width}{others}"
        )
    return found


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """A checkpoint as open_clip reads it: itself, or else a copy for the time being, of the model's weights alone."""
    state, plain, note = _state(path)
    if note:
        warnings.warn(note, CheckpointWarning, stacklevel=2)
    if plain:
        yield path
        return
    with TemporaryDirectory(prefix="foclip-") as folder:
        copy = Path(folder) / "weights.pt"
        torch.save(state, copy)
        yield copy


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names in the model; errors as of `options`."""
    return _state(path)[0]


def _state(path: Path) -> tuple[dict[str, Tensor], bool, str]:
    """The weights of a model by name, whether open_clip reads the file as it is, and what to say of others in it.

    No code of the file is run. Trainers put the weights among other things, next to an average of them (EMA) or to
    those of a loss or a classifier; and what wraps a model (DataParallel, torch.compile, Lightning) puts its name
    before each: `module.`, `_orig_mod.`, `model.`, in any order.
    """
    try:
        if path.name.endswith(SHARDS):
            parts = sorted({*json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
            loaded = {key: value for part in parts for key, value in load_file(path.parent / Path(part).name).items()}
        elif path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        problem = "no weights-only checkpoint that can be read"
        if isinstance(error, UnpicklingError):
            problem = "refused, since it holds more than weights and loading it could run code, or is no checkpoint"
        raise EncoderError(f"{path}: {problem}; save the model's state_dict as safetensors") from error
    content: dict[str, Any] = dict(loaded) if isinstance(loaded, Mapping) else {}
    sets = {str(key): held for key, value in {"": content, **content}.items() if (held := _tensors(value))}
    known = [key for key in (*IN, "") if key in sets]
    if len(sets) > 1 and not known:
        raise EncoderError(f"{path}: holds the weights {', '.join(sets)}; save the state_dict of those that are meant")
    key = (known or [*sets, ""])[0]
    others = [each for each in sets if each and each != key]
    note = f"{path}: the weights are those called {key}, not {' or '.join(others)}" if others and key else ""
    tensors = sets.get(key, {})
    if any("vision_model." in name for name in tensors):
        raise EncoderError(f"{path}: the weights are those of transformers' model; give open_clip's of the same one")
    shared = commonprefix([*tensors])  # noqa: RUF071 (of names, not of paths)
    prefix = shared[: shared.rfind(".") + 1]
    if not any(name.startswith(tuple(f"{prefix}{text}" for text in TEXT)) for name in tensors):
        found = {name.removesuffix(TOKENS).removesuffix("text.") for name in tensors if name.endswith(TOKENS)}
        averages = {name for name in found if "ema" in name.lower()}
        if averages and averages != found:
            found -= averages
            note = f"{path}: the weights are those called {' or '.join(found)}…, not {' or '.join(sorted(averages))}…"
        if len(found) > 1:
            models = ", ".join(f"{name}…" for name in sorted(found))
            raise EncoderError(f"{path}: holds the weights of several models ({models}); save the one that is meant")
        prefix = (*found, prefix)[0]
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    plain = key in ("", "state_dict") and prefix in ("", "module.") and len(own) == len(tensors)
    return own, plain and not path.name.endswith(SHARDS), note


def _tensors(value: Any) -> dict[str, Tensor]:
    """What a mapping holds of tensors by name."""
    found = value.items() if isinstance(value, Mapping) else ()
    return {name: each for name, each in found if isinstance(name, str) and isinstance(each, Tensor)}


def _checked(path: Path) -> Shapes:
    """Shape of every tensor in a checkpoint; an `EncoderError` if there are none, or none of a text tower."""
    shapes = {name: tuple(value.shape) for name, value in _state(path)[0].items()}
    if not shapes:
        raise EncoderError(f"{path}: holds no weights by name; save the model's state_dict as safetensors")
    if not any(name.startswith(TEXT) for name in shapes):
        raise EncoderError(
            f"{path}: its weights have no text tower; if they are an image tower alone, give the whole model"
        )
    return shapes


def _architectures(shapes: Shapes) -> list[str]:
    """The architectures of open_clip's that have these shapes, the plainest first."""
    found = [name for name in open_clip.list_models() if _fits(open_clip.get_model_config(name), shapes)]
    return sorted(found, key=lambda name: ("quickgelu" in name, len(name)))


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
    same = all(shapes.get(key) == shape for key, shape in expected.items())
    return same and counts == {part: len(numbers) for part, numbers in blocks.items()}


class ImageTower(nn.Module):
    """Normalised pictures (B, 3, H, W) to unit vectors (B, D). Its parameters are those of the image tower alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual: nn.Module = model.visual
        self._whole = [model]  # in a list, so that the parameters of the text tower are not this module's

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.normalize(self._whole[0].encode_image(inputs).float(), dim=-1)

    def set_grad_checkpointing(self) -> None:
        """Recompute activations in the backward pass, if the tower can."""
        if (set_checkpointing := getattr(self.visual, "set_grad_checkpointing", None)) is not None:
            set_checkpointing(True)


def image_tower(encoder: "OpenClipEncoder") -> nn.Module:
    """The image tower, a frozen module that shares the encoder's weights; an `EncoderError` if it cannot be trained."""
    model, visual = encoder.model, getattr(encoder.model, "visual", None)
    problem = None
    if not isinstance(visual, nn.Module) or not hasattr(model, "encode_image"):
        problem = "it has no image tower of its own (`model.visual`)"
    elif isinstance(model, torch.jit.ScriptModule) or isinstance(visual, torch.jit.ScriptModule):
        problem = "its image tower is compiled (TorchScript)"
    elif (
        not (parameters := list(visual.parameters()))
        or not all(weight.is_floating_point() for weight in parameters)
        or any(isinstance(value, Tensor) and value.dtype in QUANTISED for value in visual.state_dict().values())
        or any("quantized" in type(module).__module__ for module in visual.modules())
    ):
        problem = "its image tower is quantised; use the original weights"
    if problem:
        raise EncoderError(f"{encoder.name}: cannot be hardened, {problem}")
    return ImageTower(model)


def model_config(encoder: "OpenClipEncoder") -> dict[str, Any]:
    """open_clip's configuration of an encoder's architecture; an `EncoderError` if open_clip has no name for it."""
    found: dict[str, Any] | None = open_clip.get_model_config(encoder.architecture)
    if found is None:
        raise EncoderError(f"{encoder.name}: cannot be hardened, its architecture has no name in open_clip")
    if any(type(module).__name__ == "QuickGELU" for module in encoder.model.modules()):
        found["quick_gelu"] = True  # the tag of the weights may ask for it
    # A checkpoint may have sizes of its own.
    height, width = encoder.image_size
    found["vision_cfg"]["image_size"] = height if height == width else [height, width]
    found["text_cfg"]["context_length"] = encoder.tokenizer.context_length
    return found


def exporter(encoder: "OpenClipEncoder") -> Exporter:
    """What writes the encoder with another image tower. Text tower, tokenizer and preprocessing stay as they are."""
    config = model_config(encoder)

    def export(tower: nn.Module, folder: Path, half: bool) -> None:
        preprocessing = open_clip.get_model_preprocess_cfg(encoder.model)
        settings = {
            "model_cfg": config,
            "preprocess_cfg": {key: preprocessing[key] for key in PREPROCESSING if key in preprocessing},
        }
        files.write_text(folder / CONFIG, json.dumps(settings, indent=2) + "\n")
        weights = {}
        for key, value in (encoder.model.state_dict() | tower.state_dict()).items():
            dtype = torch.float16 if half and value.is_floating_point() else value.dtype
            # Each tensor is copied: safetensors refuses tensors that share memory.
            weights[key] = value.detach().cpu().to(dtype, memory_format=torch.contiguous_format, copy=True)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / WEIGHTS).chmod(0o644)
        if encoder.architecture.startswith("local-dir:"):
            source = Path(encoder.architecture.removeprefix("local-dir:"))
            for file in {file for pattern in TOKENIZER for file in source.glob(pattern) if file.is_file()}:
                shutil.copyfile(file, folder / file.name)
        elif isinstance(encoder.tokenizer, HFTokenizer):
            # With `local-dir:`, open_clip takes such a tokenizer from the folder, whatever the configuration names.
            encoder.tokenizer.save_pretrained(folder)

    return export
