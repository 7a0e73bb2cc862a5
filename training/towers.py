"""The towers of a CLIP in training, and a finished encoder that the picture tower imitates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from open_clip import CLIP
from torch import Tensor

from training import loss
from training.export import MEAN, STD

if TYPE_CHECKING:
    from training.train import Run


def encode_texts(model: CLIP, tokens: Tensor) -> Tensor:
    """(T, L) tokens of any L up to the context length → (T, D) unit vectors.

    What ``model.encode_text`` computes, without running over padding.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x)), tokens.argmax(1)]
    return F.normalize((x @ model.text_projection).float(), dim=1)


def encode_pixels(model: CLIP, pixels: Tensor) -> Tensor:
    """(B, 3, S, S) in [0, 1] → (B, D) unit vectors."""
    mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    pixels = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
    return F.normalize(model.visual(pixels).float(), dim=1)


def text_parts(model: CLIP) -> torch.nn.Module:
    """The text tower's parameters as one module."""
    parts = torch.nn.Module()
    parts.transformer, parts.ln_final = model.transformer, model.ln_final
    parts.embedding = model.token_embedding
    parts.positional_embedding = model.positional_embedding
    parts.text_projection = model.text_projection
    return parts


class Teacher:
    """A finished encoder. The picture tower of the run imitates it, its text tower is copied."""

    def __init__(self, run: Run) -> None:
        from open_clip import create_model

        settings = run.config["distil"]
        self.run, self.weight, self.scale = run, settings["weight"], settings["scale"]
        self.model = create_model(f"local-dir:{settings['teacher']}").to(run.device).eval()
        self.model.requires_grad_(False)
        self.model.visual.to(memory_format=torch.channels_last)
        self.size = int(self.model.visual.image_size[0])
        text_parts(run.model).load_state_dict(text_parts(self.model).state_dict())
        with torch.no_grad():
            run.model.logit_scale.copy_(self.model.logit_scale)

    def loss(self, pixels: Tensor, vectors: Tensor, texts: Tensor) -> Tensor:
        """Distance to the teacher's vectors and to its logits over this step's captions."""
        with torch.no_grad(), self.run.autocast():
            if pixels.shape[-1] != self.size:
                pixels = F.interpolate(pixels, size=(self.size, self.size), mode="bilinear", antialias=True)
            targets = encode_pixels(self.model, pixels)
        fixed = texts.detach()
        logits = loss.distil_logits(self.scale * vectors @ fixed.T, self.scale * targets @ fixed.T)
        return torch.as_tensor(self.weight * (loss.distance(vectors, targets) * 5 + logits))
