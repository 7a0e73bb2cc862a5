"""Every model that open_clip knows, as an encoder. Checkpoints are read as weights only."""

import threading
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from safetensors.torch import load_file
from torch import Tensor, nn

from foclip.errors import CheckpointWarning, EncoderError, PromptTruncationWarning
from foclip.models import catalogue, checkpoints, embedded, remote
from foclip.models.encoder import Encoder, digest
from foclip.models.fuse import cast, fuse_batchnorm
from foclip.models.preprocess import Preprocess
from foclip.models.surroundings import quiet, undisturbed
from foclip.models.tokenizer import EmbeddedTokenizer

if TYPE_CHECKING:
    from typing_extensions import Self

#: Prompts per pass through the text tower.
TEXT_BATCH = 256
#: A tokenizer keeps its context length, which every call changes: one thread at a time.
_TOKENIZING = threading.Lock()


class OpenClipEncoder(Encoder):
    """CLIP, SigLIP, CoCa … as open_clip builds them.

    Get one from `foclip.load_encoder`; the constructor takes an open_clip model, whose parameters it freezes, its
    tokenizer, and what open_clip calls its architecture, or where the folder or repository with its configuration is
    (`local-dir:FOLDER`, `hf-hub:ORGANISATION/REPOSITORY`); unless given, that is the beginning of its name.
    """

    image_tower, exporter = checkpoints.image_tower, checkpoints.exporter

    @undisturbed()
    def __init__(
        self, name: str, model: nn.Module, tokenizer: Any, device: torch.device | str = "cpu", architecture: str = ""
    ) -> None:
        self.name, self.tokenizer, self.device = name, tokenizer, torch.device(device)
        self.architecture = architecture or name.partition("/")[0]
        self.model: Any = model.to(self.device).eval().requires_grad_(False)
        if self.device.type == "cpu":  # convolutions on CPUs are up to a fifth faster with this layout
            self.model.to(memory_format=torch.channels_last)
        config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        height, width = map(int, config.input_size[1:])
        resizing = (config.interpolation, config.resize_mode, config.fill_color)
        self.preprocess = Preprocess((height, width), config.mean, config.std, *resizing, self.device)
        example = torch.randn(1, 3, *self.image_size, generator=torch.Generator().manual_seed(0))
        self._fused: Any = fuse_batchnorm(self.model, example.to(self.device))
        self._cast: dict[torch.dtype, Any] = {}

    @cached_property  # asked for with every pass
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def fingerprint(self) -> str:
        # Weights do not tell their activation, and two models that differ in it alone score differently.
        return digest(f"{self.preprocess.description} {_quick(self.model)}", self.model)

    @property
    def logits(self) -> tuple[float, float] | None:
        scale, bias = (getattr(self.model, name, None) for name in ("logit_scale", "logit_bias"))
        return None if scale is None else (float(scale.exp()), 0.0 if bias is None else float(bias))

    def in_precision(self, dtype: torch.dtype | None, compiled: bool = False) -> "Self":
        if dtype is not None and dtype not in self._cast:  # not while it is compiled, which would be compiled again
            self._cast[dtype] = cast(self._fused, dtype)
        return super().in_precision(dtype, compiled)

    def features(self, inputs: Tensor) -> Tensor:
        model, kind = self._fused, self.device.type
        if torch.is_autocast_enabled(kind):
            if (dtype := torch.get_autocast_dtype(kind)) not in self._cast:
                self._cast[dtype] = cast(self._fused, dtype)
            model = self._cast[dtype]
        return torch.as_tensor(model.encode_image(inputs))

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        tokens, truncated = self.tokenize(texts)
        if truncated:
            message = (
                f"{len(truncated)} of {len(texts)} prompts are longer than the {tokens.shape[1]} tokens "
                f"{self.name} reads; only their beginning counts (first: {texts[truncated[0]][:60]!r}…)"
            )
            warnings.warn(message, PromptTruncationWarning, stacklevel=3)
        chunks = torch.split(tokens.to(self.device), TEXT_BATCH)
        return torch.cat([self.model.encode_text(chunk, normalize=True) for chunk in chunks])

    @undisturbed()
    def tokenize(self, texts: list[str]) -> tuple[Tensor, list[int]]:
        """Tokens (T, context) of prompts, and the indices of those that were cut short."""
        context = self.tokenizer.context_length
        with _TOKENIZING:
            # One token more than the model reads: what spills into it was cut.
            longer = self.tokenizer([*texts, ""], context_length=context + 1)
            tokens = self.tokenizer(texts, context_length=context)
        empty, pad = longer[-1], longer[-1, -1]
        truncated = (longer[:-1, -1] != pad).nonzero().flatten().tolist()
        if len(ends := empty[empty != pad]):  # the end-of-text token, which most text towers read their result from
            tokens[truncated, -1] = ends[-1]
        return tokens, truncated


def _quick(model: nn.Module) -> bool:
    return any(type(module).__name__ == "QuickGELU" for module in model.modules())


def load(name: str, device: torch.device) -> Encoder:
    """An encoder by one of open_clip's names, or of a checkpoint file; errors as of `foclip.models.load_encoder`."""
    remote.require(name)
    if name.startswith(("hf-hub:", "local-dir:")):
        return create(name, name, None, device)
    architecture, tag, file = catalogue.parse(name)
    if architecture and not file:
        return create(name, architecture, tag, device)
    path = Path(file or name)
    architecture = architecture or checkpoints.architecture(path)
    options = checkpoints.options(architecture, path, tag)
    with checkpoints.readable(path) as readable:
        encoder = create(name, architecture, str(readable), device, **options)
    if tag:
        return encoder
    quick, base = _quick(encoder.model), architecture.removesuffix("-quickgelu")
    other = base if quick else f"{base}-quickgelu"
    choice = f" (for the other activation pass {other}/FILE)" if other in open_clip.list_models() else ""
    warnings.warn(
        f"{name}: taken as {architecture} with {'QuickGELU' if quick else 'GELU'}{choice}, "
        f"{encoder.tokenizer.context_length} tokens, pictures (size, mean, std, …) {encoder.preprocess.description}",
        CheckpointWarning,
        stacklevel=2,
    )
    return encoder


def load_embedded(name: str, device: torch.device) -> "OpenClipEncoder":
    """An embedded encoder, after checking its files; an `EncoderError` if one differs from what was released."""
    folder, tower = embedded.verified_path(name), None
    if name in embedded.ORIGINALS:
        folder, tower = embedded.verified_path(embedded.ORIGINALS[name]), folder / embedded.TOWER
    return create(name, f"local-dir:{folder}", None, device, tower)


def create(
    name: str,
    model_name: str,
    weights: str | None,
    device: torch.device,
    tower: Path | None = None,
    **options: Any,
) -> OpenClipEncoder:
    """Build a model of open_clip's, which calls it `model_name`, as an encoder called `name`.

    `weights` are a tag or a file; None where the model's folder or repository holds them. `tower` is a file of weights
    for the image tower, in place of those loaded with the model. `options` are those of `open_clip.create_model`.
    """
    if weights is not None:
        tag = open_clip.get_pretrained_cfg(model_name, weights)
        if tag.get("quick_gelu") and not (open_clip.get_model_config(model_name) or {}).get("quick_gelu"):
            # RN50/openai and the like: the weights were trained with QuickGELU; open_clip only warns and would score
            # with another activation than the authors'.
            options["force_quick_gelu"] = True
    try:
        with quiet():
            model = open_clip.create_model(model_name, weights, require_pretrained=True, **options)
            if name in embedded.names():
                tokenizer = EmbeddedTokenizer(Path(model_name.removeprefix("local-dir:")), model.context_length)
            else:
                tokenizer = open_clip.get_tokenizer(model_name, context_length=options.get("force_context_length"))
        if tower:
            model.visual.load_state_dict(load_file(tower))
        if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
            raise ValueError("its weights are not finite (NaN or infinity among them)")
        return OpenClipEncoder(name, model, tokenizer, device, model_name)
    except Exception as error:  # open_clip, torch and the hub raise a dozen types for one cause each
        raise EncoderError(f"{name}: {_reason(error)}") from error


#: Why a model did not load, with the way out, by what is said in the error.
_REASONS = {
    ("weights_only", "unpickl", "torchscript"): (
        "refused, since this file holds more than weights and loading it could run code; "
        "save its state_dict as safetensors"
    ),
    ("download", "connection", "hf-hub", "hf hub"): (
        "what it is made of cannot be downloaded; check the network (or HF_HUB_OFFLINE), or fetch it elsewhere and "
        "pass ARCHITECTURE/TAG/FILE or local-dir:FOLDER (%s)"
    ),
    ("deserializ", "safetensor"): "its weights file is damaged or cut off (%s)",
    ("width changed",): "the weights do not fit the architecture (their text tower has another width)",
    ("state_dict", "size mismatch"): "the weights do not fit the architecture (%s)",
}


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    for words, reason in _REASONS.items():
        if any(word in text.lower() for word in words):
            return reason.replace("%s", text[:160])
    return text[:300] or type(error).__name__
