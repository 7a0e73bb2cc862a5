"""Encoder: pictures and prompts to unit vectors in one space, over any open_clip model."""

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from foclip.encoders.dual import DualEncoder
from foclip.encoders.preprocessing import Preprocessing
from foclip.errors import PromptTruncationWarning

#: Prompts per pass through the text tower.
TEXT_BATCH = 256


class Encoder(DualEncoder):
    """A frozen dual encoder (CLIP, SigLIP, …) in evaluation mode.

    Get one from `foclip.encoders.load`; the constructor takes an open_clip
    model and its tokenizer.

    Attributes:
        name: The name it was loaded by.
        model: The open_clip model; no parameter requires a gradient.
        preprocess: Its preprocessing on pixels, differentiable.
        preprocess_image: Its preprocessing on one PIL picture, as open_clip ships it.
        image_size: (height, width) of the image tower's input.
    """

    preprocess: Preprocessing

    def __init__(self, name: str, model: nn.Module, tokenizer: Any, device: torch.device | str = "cpu") -> None:
        self.name = name
        self.device = torch.device(device)
        self.model: Any = model.to(self.device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        height, width = config.input_size[1:]
        self.image_size = (int(height), int(width))
        self.preprocess_image = image_transform_v2(config, is_train=False)
        self.preprocess = Preprocessing(
            self.image_size,
            config.mean,
            config.std,
            config.interpolation,
            config.resize_mode,
            config.fill_color,
            self.device,
        )

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def encode_inputs(self, inputs: Tensor) -> Tensor:
        """Unit vectors (B, D) of preprocessed pictures (B, 3, *image_size), differentiably."""
        return nn.functional.normalize(self.model.encode_image(inputs), dim=-1)

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        batches = [
            self.encode_inputs(
                torch.stack([self.preprocess_image(p) for p in pictures[i : i + batch_size]]).to(self.device)
            )
            for i in range(0, len(pictures), batch_size)
        ]
        return torch.cat(batches)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of prompts.

        A prompt longer than the model's context keeps its beginning and its
        end-of-text token, and a `PromptTruncationWarning` says so.

        Args:
            texts: T prompts.

        Returns:
            (T, D), float32, each row of length 1.
        """
        tokens, truncated = self.tokenize(texts)
        if truncated:
            shown = texts[truncated[0]][:60]
            warnings.warn(
                f"{len(truncated)} of {len(texts)} prompts are longer than the {tokens.shape[1]} tokens "
                f"{self.name} reads; only their beginning counts (first: {shown!r}…)",
                PromptTruncationWarning,
                stacklevel=2,
            )
        chunks = [
            self.model.encode_text(chunk, normalize=True) for chunk in torch.split(tokens.to(self.device), TEXT_BATCH)
        ]
        return torch.cat(chunks)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Tokens (T, context) of prompts, and the indices of those that were cut short.

        The last kept token of a cut prompt is the end-of-text token, which
        most text towers read their result from.
        """
        context = self.tokenizer.context_length
        # One token more than the model reads: what spills into it was cut.
        longer = self.tokenizer([*texts, ""], context_length=context + 1)
        tokens = self.tokenizer(list(texts), context_length=context)
        empty = longer[-1]
        pad = empty[-1]
        truncated = (longer[:-1, -1] != pad).nonzero().flatten().tolist()
        ends = empty[empty != pad]
        if len(ends):
            tokens[truncated, -1] = ends[-1]
        return tokens, truncated
