"""CLIPScore: the cosine of a picture's embedding with a prompt's."""

import math
from collections.abc import Sequence

from torch import Tensor

from foclip.errors import UsageError
from foclip.models.encoder import Encoder
from foclip.models.scorer import ScoreInfo, Targets
from foclip.models.scores.base import EmbeddingScore

#: Weight of CLIPScore in Hessel et al. 2021 (arXiv 2104.08718), equation 1. torchmetrics uses 100.
SCALE = 2.5
#: Cosine below which a picture matches no prompt in any CLIP.
NO_MATCH = 0.1


class CLIPScore(EmbeddingScore):
    r"""CLIPScore (Hessel et al. 2021, arXiv 2104.08718, equation 1); its raw scores are cosines.

    .. math:: \text{CLIPScore}(x, p) = w \max(\cos(E(x), E(p)), 0)

    Its temperature is that at which CLIP itself turns cosines into probabilities (a `logit_scale` of 100).
    `scale` is the weight w, above 0: 2.5 (Hessel et al.), 100 in torchmetrics.
    """

    name = "clipscore"

    def __init__(self, encoder: Encoder, scale: float = SCALE) -> None:
        super().__init__(encoder)
        if not 0 < scale < math.inf:
            raise UsageError(f"scale: {scale} is no number above 0")
        self.info = ScoreInfo(self.name, scale=scale, floor=NO_MATCH * scale)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return self.encoder.encode_texts(prompts)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        assert isinstance(targets, Tensor)
        return embeddings @ targets.to(embeddings.device).T
