"""CLIP-IQA (Wang et al. 2023, arXiv 2207.12396): how good a picture is, by two opposite prompts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from foclip.models.scorer import ScoreInfo, Targets
from foclip.models.scores.clip import EmbeddingScore

#: The two sides of what a prompt names; "photo." gives the paper's "Good photo." and "Bad photo.".
GOOD, BAD = "Good", "Bad"
#: CLIP's `logit_scale`, which the paper keeps.
LOGIT_SCALE = 100.0


class CLIPIQA(EmbeddingScore):
    r"""The probability of the good side of a prompt against its bad one, in [0, 1].

    .. math:: s(x, p) = \operatorname{softmax}_1 \bigl( 100 \cos(E(x), E(\text{Good } p)),
              100 \cos(E(x), E(\text{Bad } p)) \bigr)

    Below its floor of 0.1 a picture is bad without doubt, and relative changes are noise.
    """

    name = "clip-iqa"
    info = ScoreInfo(name, floor=0.1, prompts="optional", default_prompts=("photo.",))

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Both sides of each prompt, (T, 2, D)."""
        texts = [f"{side} {prompt}" for prompt in prompts for side in (GOOD, BAD)]
        return self.encoder.encode_texts(texts).view(len(prompts), 2, -1)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        assert isinstance(targets, Tensor)
        cosines = torch.einsum("...d,tsd->...ts", embeddings, targets.to(embeddings.device))
        return torch.softmax(LOGIT_SCALE * cosines, dim=-1).select(-1, 0)
