"""SigLIP's probability that a picture and a text belong together (Zhai et al. 2023, arXiv 2303.15343)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from foclip.errors import UsageError
from foclip.models.encoder import Encoder
from foclip.models.scorer import ScoreInfo, Targets
from foclip.models.scores.clip import EmbeddingScore


class SigLIPScore(EmbeddingScore):
    r"""The probability of a pair, in [0, 1]; for encoders that were trained with a sigmoid loss (SigLIP, SigLIP 2).

    .. math:: s(x, p) = \sigma \bigl( e^{t} \cos(E(x), E(p)) + b \bigr)

    Scale and bias are the checkpoint's own. Prompts are read as they are; the authors lower-case them (SigLIP 2: give
    them in lower case where the tokenizer does not). Needs: an encoder with a bias, as google/siglip2-base-patch16-224
    (Apache-2.0) or ViT-B-16-SigLIP/webli.
    """

    name = "siglip"
    info = ScoreInfo(name, floor=0.01)

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        if encoder.logits is None or not encoder.logits[1]:
            raise UsageError(
                f"{self.name}: {encoder.name} has no bias, so it was trained with another loss; pass --model with a "
                "SigLIP, such as google/siglip2-base-patch16-224"
            )
        self._scale, self._bias = encoder.logits

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return self.encoder.encode_texts(prompts)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        assert isinstance(targets, Tensor)
        return torch.sigmoid(self._scale * (embeddings @ targets.to(embeddings.device).T) + self._bias)
