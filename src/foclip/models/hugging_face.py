"""Dual encoders of transformers: CLIP, SigLIP and their kin, from a repository of the hub or a folder.

Pictures go through the model's own image processor, texts through its own tokenizer. Code that a repository brings is
never run.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from foclip.errors import CheckpointWarning, EncoderError, PromptTruncationWarning
from foclip.models import catalogue, remote
from foclip.models.encoder import Encoder, digest
from foclip.models.processor import NaFlexPreprocess, ProcessorPreprocess
from foclip.models.scorer import Inputs
from foclip.models.surroundings import quiet, undisturbed

#: Prompts per pass through the text tower.
TEXT_BATCH = 256
#: Texts that tell tokenizers apart.
TOLD_APART = ("A photo of 3 Cats, in_the dark!", "éclair 猫 the quick brown fox jumps over the lazy dog.")
#: What tells nothing of a model in its configuration.
ABOUT_FILES = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


class Family(NamedTuple):
    """What a kind of models asks for."""

    kind: str  #: Its class in transformers.
    tokens: int | None = None  #: Most tokens of a text, where its authors use fewer than it has places.
    padding: Literal["longest", "max_length"] = "longest"  #: Where no mask hides padding, texts were trained with it.
    lower: bool = False  #: Whether it was trained on texts in lower case.


#: Families by the `model_type` of their configuration.
FAMILIES = {
    "clip": Family("CLIPModel"),
    "siglip": Family("SiglipModel", padding="max_length", lower=True),  # and SigLIP 2 of one resolution
    "siglip2": Family("Siglip2Model", padding="max_length", lower=True),  # NaFlex
    "metaclip_2": Family("MetaClip2Model"),
    "align": Family("AlignModel", 64, "max_length"),
    "altclip": Family("AltCLIPModel", 77),
    "chinese_clip": Family("ChineseCLIPModel", 52),
    "aimv2": Family("Aimv2Model"),
    "tipsv2": Family("Tipsv2Model", 64, "max_length"),
    "blip": Family("BlipForImageTextRetrieval", 35),
}


class HuggingFaceEncoder(Encoder):
    """A dual encoder of transformers 5; get one from `foclip.load_encoder`.

    Args:
        name: The name it was loaded by.
        model: A model of one of the `FAMILIES`; its parameters are frozen.
        processor: Its image processor.
        tokenizer: Its tokenizer.
        device: Where it computes.
    """

    preprocess: ProcessorPreprocess | NaFlexPreprocess
    preprocessing: ClassVar[type[ProcessorPreprocess | NaFlexPreprocess]] = ProcessorPreprocess

    @undisturbed()
    def __init__(
        self, name: str, model: nn.Module, processor: Any, tokenizer: Any, device: torch.device | str = "cpu"
    ) -> None:
        self.name, self.tokenizer, self.device = name, tokenizer, torch.device(device)
        self.model: Any = model.to(self.device).eval().requires_grad_(False)
        config: Any = model.config
        self.family = FAMILIES[config.model_type]
        self.preprocess = self.preprocessing(processor, self.device)
        size = getattr(config.vision_config, "image_size", None)
        if isinstance(size, int) and self.image_size != (size, size) and config.model_type != "align":
            height, width = self.image_size
            raise EncoderError(f"its processor makes pictures of {height} × {width}, its image tower reads {size}")
        places = getattr(config.text_config, "max_position_embeddings", None)
        found = (self.family.tokens, places, getattr(tokenizer, "model_max_length", None))
        self.context_length = min(int(each) for each in found if each)

    @cached_property  # asked for with every pass
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def fingerprint(self) -> str:
        config = _without(self.model.config.to_dict(), ABOUT_FILES)
        # Of a tokenizer the ids that it gives: its classes keep their settings in many places.
        with quiet():  # which would warn of a long one
            ids = self.tokenizer(list(TOLD_APART))["input_ids"]
        told = (self.family.kind, self.preprocess.description, self.context_length, ids)
        return digest(f"{told} {json.dumps(config, sort_keys=True)}", self.model)

    @cached_property
    def logits(self) -> tuple[float, float] | None:
        model = self.model
        if (scale := getattr(model, "logit_scale", None)) is not None:
            most = getattr(model, "max_log_logit_scale", math.inf)  # of AIMv2
            return float(scale.clamp(max=most).exp()), float(getattr(model, "logit_bias", 0.0))
        divisor = getattr(model, "temperature", None)
        return None if divisor is None else (1 / float(divisor), 0.0)

    def features(self, inputs: Tensor) -> Tensor:
        model = self.model
        if self.family.kind == "BlipForImageTextRetrieval":
            return torch.as_tensor(model.vision_proj(model.vision_model(inputs).last_hidden_state[:, 0]))
        return torch.as_tensor(model.get_image_features(pixel_values=inputs).pooler_output)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        tokens = read(self.tokenizer, texts, self.family.padding, self.context_length, self.name)
        firsts = range(0, len(texts), TEXT_BATCH)
        parts = [{key: ids[at : at + TEXT_BATCH].to(self.device) for key, ids in tokens.items()} for at in firsts]
        return nn.functional.normalize(torch.cat([self._text_features(part) for part in parts]).float(), dim=-1)

    def _text_features(self, tokens: dict[str, Tensor]) -> Tensor:
        model = self.model
        if self.family.kind == "BlipForImageTextRetrieval":
            return torch.as_tensor(model.text_proj(model.text_encoder(**tokens).last_hidden_state[:, 0]))
        return torch.as_tensor(model.get_text_features(**tokens).pooler_output)


class NaFlexEncoder(HuggingFaceEncoder):
    """SigLIP 2 NaFlex, which sees each picture near its own aspect ratio, in patches (`NaFlexPreprocess`)."""

    preprocessing = NaFlexPreprocess
    fixed_size = False

    @undisturbed()
    def embed(self, pixels: Inputs) -> Tensor:
        """Unit vectors (B, D), float32, of float pixels (B, 3, H, W) in [0, 1], or of what `preprocess` made."""
        assert isinstance(self.preprocess, NaFlexPreprocess)
        patches, shapes = self.preprocess.pixels(pixels) if isinstance(pixels, Tensor) else pixels
        shapes = shapes.to(self.device).clamp(min=1)  # rows that fill up a batch have no patches
        mask = torch.arange(patches.shape[1], device=self.device) < shapes.prod(dim=1, keepdim=True)
        return self.tower((self.preprocess.normalize(patches.to(self.device)), mask, shapes))

    def features(self, inputs: Any) -> Tensor:
        patches, mask, shapes = inputs
        found = self.model.get_image_features(
            pixel_values=patches, pixel_attention_mask=mask.int(), spatial_shapes=shapes
        )
        return torch.as_tensor(found.pooler_output)


@undisturbed()
def read(tokenizer: Any, texts: list[str], padding: str, length: int, name: str) -> dict[str, Tensor]:
    """What a text tower reads of T prompts by its tokenizer, ids and which of them count, (T, at most `length`) each.

    A longer prompt keeps its beginning and its end-of-text token, and a `PromptTruncationWarning` says so.
    """
    with quiet():  # what is said of long prompts is said here
        whole = tokenizer(texts)["input_ids"]
    cut = [text for text, ids in zip(texts, whole, strict=True) if len(ids) > length]
    if cut:
        message = (
            f"{len(cut)} of {len(texts)} prompts are longer than the {length} tokens {name} reads; "
            f"only their beginning counts (first: {cut[0][:60]!r}…)"
        )
        warnings.warn(message, PromptTruncationWarning, stacklevel=4)
    found = tokenizer(texts, padding=padding, truncation=True, max_length=length, return_tensors="pt")
    return {key: ids for key, ids in found.items() if key in ("input_ids", "attention_mask")}


def _without(config: Any, names: tuple[str, ...]) -> Any:
    """A configuration without these names, in whatever part of it."""
    if not isinstance(config, dict):
        return config if isinstance(config, str | int | float | list | None) else str(config)
    return {key: _without(value, names) for key, value in config.items() if key not in names}


def load(name: str, device: torch.device) -> HuggingFaceEncoder:
    """The encoder of a folder or a repository, `transformers:PLACE` or that place alone; an `EncoderError` if it fails.

    A `CheckpointWarning` says what was taken.
    """
    with explained(name):
        model, processor, tokenizer = parts(name, lambda config: _family(config).kind)
        made = NaFlexEncoder if type(model).__name__ == "Siglip2Model" else HuggingFaceEncoder
        encoder = made(name, model, processor, tokenizer, device)
    warnings.warn(f"{name}: {_taken(encoder)}", CheckpointWarning, stacklevel=2)
    return encoder


def parts(name: str, kind_of: Callable[[dict[str, Any]], str]) -> tuple[Any, Any, Any]:
    """Model, image processor and tokenizer of a folder or a repository, inside `explained`; weights are read as such.

    `kind_of` the configuration is the model's class in transformers.
    """
    place = name.removeprefix(catalogue.TRANSFORMERS)
    _require_model(Path(place))
    import transformers

    if int(transformers.__version__.partition(".")[0]) < 5:
        raise EncoderError(f"needs transformers 5, and {transformers.__version__} is here; pip install -U transformers")
    config, _ = transformers.PreTrainedConfig.get_config_dict(place)
    kind = getattr(transformers, kind_of(config))
    with quiet(), _without_bars():
        # In float32, whatever the file holds: lower precision is asked for elsewhere.
        model, found = kind.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
        if missing := sorted(found["missing_keys"]):
            raise EncoderError(f"its weights lack {len(missing)} of the model's parameters ({missing[0]}, …)")
        if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
            raise EncoderError("its weights are not finite (NaN or infinity among them)")
        others = transformers.AutoImageProcessor, transformers.AutoTokenizer
        processor, tokenizer = (part.from_pretrained(place, trust_remote_code=False) for part in others)
    return model, processor, tokenizer


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Whatever goes wrong while a model is loaded, as an `EncoderError` that names it and says why."""
    remote.require(f"{catalogue.TRANSFORMERS}{name.removeprefix(catalogue.TRANSFORMERS)}")
    try:
        yield
    except Exception as error:  # transformers, torch and the hub raise a dozen types for one cause each
        raise EncoderError(f"{name}: {_reason(error)}") from error


def _require_model(folder: Path) -> None:
    """An `EncoderError` for a folder that holds something else than a model, with the way out; a repository passes."""
    if not folder.is_dir() or (folder / "config.json").is_file():
        held = [path for path in folder.glob("*") if path.suffix in catalogue.SUFFIXES]
        if folder.is_dir() and not held:
            raise EncoderError("no weights in this folder (model.safetensors); copy the whole repository")
        return
    if (adapter := folder / "adapter_config.json").is_file():
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path") or "its base model"
        raise EncoderError(
            f"an adapter of {base}, no model; merge them (peft: merge_and_unload(), then save_pretrained), "
            "and give the folder of the result"
        )
    if (folder / "open_clip_config.json").is_file():
        raise EncoderError("open_clip wrote this folder: pass local-dir:FOLDER")
    raise EncoderError("no config.json in this folder; give one that save_pretrained wrote")


def _family(config: dict[str, Any]) -> Family:
    """The family of a configuration; an `EncoderError` if it is none, or has code of its own."""
    kind = config.get("model_type", "")
    if kind in FAMILIES:
        return FAMILIES[kind]
    if config.get("auto_map"):
        raise EncoderError(
            f"its architecture {kind!r} is code in the repository (trust_remote_code), which is never run; "
            "use a checkpoint whose architecture is in transformers or in open_clip"
        )
    raise EncoderError(f"no dual encoder that is known here ({kind or 'no model_type'}); use {', '.join(FAMILIES)}")


def _taken(encoder: HuggingFaceEncoder) -> str:
    """What a model was taken for, and where its own tokenizer is known to cost accuracy."""
    kind, pictures = type(encoder.model).__name__, encoder.preprocess.description
    told = f"taken as {kind} with {encoder.context_length} tokens, pictures {pictures}"
    upper, lower = encoder.tokenizer(["A CAT", "a cat"])["input_ids"]
    if encoder.family.lower and upper != lower:
        told += "; its tokenizer keeps capitals, which it was not trained on: give prompts in lower case"
    return told


def _reason(error: Exception) -> str:
    """Why a model did not load, with the way out."""
    text = " ".join(str(error).split())
    if isinstance(error, EncoderError):
        return text
    if "sentencepiece" in text.lower():
        return "its tokenizer needs a package that is not here; pip install sentencepiece"
    if "image processor" in text.lower():
        return "what its pictures go through is not told (preprocessor_config.json); copy the whole repository"
    if "size mismatch" in text or "mismatched" in text.lower():
        return f"the weights do not fit its configuration ({text[:160]})"
    return f"transformers cannot load it ({type(error).__name__}: {text[:200]})"


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without transformers' progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
