"""Scores whose text tower looks at the patches of a picture, by BLIP: matching, and ImageReward.

Neither has an embedding of a picture alone, so no detector works with them; each prompt takes a pass of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from foclip.errors import UsageError
from foclip.models.encoder import Encoder, digest
from foclip.models.hugging_face import HuggingFaceEncoder, read
from foclip.models.preprocess import Preprocess
from foclip.models.registry import load_encoder
from foclip.models.scorer import Inputs, ScoreInfo, Targets
from foclip.models.surroundings import undisturbed

#: Tokens of a prompt, padded to so many by the authors.
TOKENS = 35


class CrossAttentionScore(ABC):
    """A score that reads a prompt's features after its tokens have looked at a picture; a `Scorer`.

    A subclass says what it makes of the features, and sets `info`.
    """

    info: ScoreInfo
    name: ClassVar[str]

    def __init__(self, name: str, network: Any, tokenizer: Any, preprocess: Preprocess, device: torch.device) -> None:
        """A frozen network with BLIP's `vision_model` and `text_encoder`, what comes before it, and where it is."""
        self.model, self.preprocess, self.device = name, preprocess, device
        self._network, self._tokenizer = network, tokenizer
        self.parameter_count = sum(p.numel() for p in network.parameters())

    def __deepcopy__(self, memo: dict[int, Any]) -> "CrossAttentionScore":
        """Itself, since it is frozen: copies of a metric share its weights."""
        return self

    @cached_property
    def fingerprint(self) -> str:
        return digest(f"{self.info.name} {self.preprocess.description}", self._network)

    @abstractmethod
    def head(self, features: Tensor) -> Tensor:
        """Raw scores (B,) of features (B, D) of a prompt's first token."""

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Ids of the tokens of T prompts and which of them count, (T, 2, 35)."""
        if isinstance(prompts, str) or not prompts:
            raise UsageError("texts: give a list of prompts, at least one")
        found = read(self._tokenizer, list(prompts), "max_length", TOKENS, self.model)
        return torch.stack([found["input_ids"], found["attention_mask"]], dim=1)

    @undisturbed()
    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        assert isinstance(pixels, Tensor)
        assert isinstance(targets, Tensor)
        preprocess, model = self.preprocess, self._network
        seen = preprocess.pixels(pixels) if pixels.is_floating_point() else pixels
        patches = model.vision_model(preprocess.normalize(seen.to(self.device))).last_hidden_state
        return torch.stack([self.head(self._features(patches, *words)) for words in targets.to(self.device)], dim=1)

    def _features(self, patches: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        read: Any = self._network.text_encoder(
            input_ids=ids.expand(len(patches), -1),
            attention_mask=mask.expand(len(patches), -1),
            encoder_hidden_states=patches,
            encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device),
        )
        return torch.as_tensor(read.last_hidden_state[:, 0])


class BLIPMatching(CrossAttentionScore):
    r"""The probability that a text matches a picture (Li et al. 2022, arXiv 2201.12086), in [0, 1].

    .. math:: s(x, p) = \operatorname{softmax}_1 \bigl( W h(x, p) \bigr)

    The text tower looks at the picture's patches. Pictures are squashed to 384 pixels; prompts are read as they are, up
    to 35 tokens. Needs: --model Salesforce/blip-itm-base-coco (BSD-3-Clause).
    """

    name = "blip-itm"
    info = ScoreInfo(name, floor=0.01)

    @classmethod
    def load(cls, model: str | Encoder, device: torch.device) -> "BLIPMatching":
        """The score by a BLIP for retrieval, or by that of this name."""
        found = load_encoder(model, device) if isinstance(model, str) else model
        if not isinstance(found, HuggingFaceEncoder) or not hasattr(found.model, "itm_head"):
            raise UsageError(f"{cls.name}: {found.name} cannot match; pass --model Salesforce/blip-itm-base-coco")
        return cls(found.name, found.model, found.tokenizer, found.preprocess, found.device)

    def head(self, features: Tensor) -> Tensor:
        return torch.as_tensor(self._network.itm_head(features).softmax(dim=-1)[:, 1])
