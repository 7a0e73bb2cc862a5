"""Every model that open_clip knows, as an encoder."""

import hashlib
import warnings
from functools import cached_property
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import Compose, ToTensor
from torchvision.transforms.functional import normalize

from foclip.errors import PromptTruncationWarning
from foclip.models import trainable
from foclip.models.cast import lowered
from foclip.models.encoder import Encoder
from foclip.models.fuse import folded
from foclip.models.preprocessing import Preprocessing

#: Prompts per pass through the text tower.
TEXT_BATCH = 256


class OpenClipEncoder(Encoder):
    """CLIP, SigLIP, CoCa … as open_clip builds them.

    Get one from `foclip.load`; the constructor takes an open_clip model and its tokenizer.

    Attributes:
        model: The open_clip model; no parameter requires a gradient.
        tokenizer: Its tokenizer.
        transform: Its preprocessing on one PIL picture, as open_clip ships it.
    """

    def __init__(self, name: str, model: nn.Module, tokenizer: Any, device: torch.device | str = "cpu") -> None:
        self.name = name
        self.device = torch.device(device)
        self.model: Any = model.to(self.device).eval().requires_grad_(False)
        if self.device.type == "cpu":  # convolutions on CPUs are up to a fifth faster with this layout
            self.model.to(memory_format=torch.channels_last)
        self.tokenizer = tokenizer
        config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        height, width = config.input_size[1:]
        self.image_size = (int(height), int(width))
        self.transform = image_transform_v2(config, is_train=False)
        steps = self.transform.transforms
        to_tensor = next(i for i, step in enumerate(steps) if isinstance(step, ToTensor))
        self._resize, self._normalize = Compose(steps[:to_tensor]), steps[-1]  # a `Normalize`
        self.preprocess = Preprocessing(
            self.image_size,
            config.mean,
            config.std,
            config.interpolation,
            config.resize_mode,
            config.fill_color,
            self.device,
        )
        example = torch.randn(1, 3, *self.image_size, generator=torch.Generator().manual_seed(0))
        self._quick: Any = folded(self.model, example.to(self.device))
        self._lower: dict[torch.dtype, Any] = {}

    @cached_property  # asked for with every pass
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def fingerprint(self) -> str:
        # Weights do not tell their activation, and two models that differ in it alone score differently.
        quick = any(type(module).__name__ == "QuickGELU" for module in self.model.modules())
        digest = hashlib.sha256(f"{self.preprocess.description} {quick}".encode())
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def image_tower(self) -> nn.Module:
        """The image tower as a module (`foclip.hardening.tower.HardenableEncoder`)."""
        return trainable.image_tower(self)

    def exporter(self) -> trainable.Exporter:
        """What writes the encoder with another image tower."""
        return trainable.exporter(self)

    def features(self, inputs: Tensor) -> Tensor:
        kind, model = self.device.type, self._quick
        if torch.is_autocast_enabled(kind):
            model = self._lower.get(torch.get_autocast_dtype(kind), model)
        return torch.as_tensor(model.encode_image(inputs))

    def lower(self, dtype: torch.dtype) -> None:
        if dtype not in self._lower:
            self._lower[dtype] = lowered(self._quick, dtype)

    def prepare(self, picture: Image.Image) -> Tensor:
        return torch.as_tensor(self.transform(picture))

    def resize(self, picture: Image.Image) -> Image.Image:
        if picture.size == (self.image_size[1], self.image_size[0]):
            return picture
        resized: Image.Image = self._resize(picture)
        return resized

    def normalize(self, levels: Tensor) -> Tensor:
        inputs = levels.float().div_(255)  # fresh, so the rest is done in place: a copy costs a large part of it
        return torch.as_tensor(normalize(inputs, self._normalize.mean, self._normalize.std, inplace=True))

    @torch.no_grad()
    def _texts(self, texts: list[str]) -> Tensor:
        tokens, truncated = self.tokenize(texts)
        if truncated:
            shown = texts[truncated[0]][:60]
            warnings.warn(
                f"{len(truncated)} of {len(texts)} prompts are longer than the {tokens.shape[1]} tokens "
                f"{self.name} reads; only their beginning counts (first: {shown!r}…)",
                PromptTruncationWarning,
                stacklevel=3,
            )
        chunks = [
            self.model.encode_text(chunk, normalize=True) for chunk in torch.split(tokens.to(self.device), TEXT_BATCH)
        ]
        return torch.cat(chunks)

    def tokenize(self, texts: list[str]) -> tuple[Tensor, list[int]]:
        """Tokens (T, context) of prompts, and the indices of those that were cut short.

        The last kept token of a cut prompt is the end-of-text token, which
        most text towers read their result from.
        """
        context = self.tokenizer.context_length
        # One token more than the model reads: what spills into it was cut.
        longer = self.tokenizer([*texts, ""], context_length=context + 1)
        tokens = self.tokenizer(texts, context_length=context)
        empty = longer[-1]
        pad = empty[-1]
        truncated = (longer[:-1, -1] != pad).nonzero().flatten().tolist()
        ends = empty[empty != pad]
        if len(ends):
            tokens[truncated, -1] = ends[-1]
        return tokens, truncated
