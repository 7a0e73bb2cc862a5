"""PickScore (Kirstain et al. 2023, arXiv 2305.01569): which picture people would pick for a prompt."""

from foclip.errors import UsageError
from foclip.models.encoder import Encoder
from foclip.models.scores.clip import CLIPScore


class PickScore(CLIPScore):
    r"""A cosine, times the scale of a CLIP ViT-H/14 that was tuned on choices of people; about 20 for a fitting pair.

    .. math:: s(x, p) = e^{t} \max(\cos(E(x), E(p)), 0)

    Pictures go through the processor of laion/CLIP-ViT-H-14-laion2B-s32B-b79K; prompts are read as they are, up to 77
    tokens. Needs: --model yuvalkirstain/PickScore_v1 (4 GB; its card names no licence).
    """

    name = "pickscore"

    def __init__(self, encoder: Encoder) -> None:
        if encoder.logits is None:
            raise UsageError(f"{self.name}: {encoder.name} has no scale; pass --model yuvalkirstain/PickScore_v1")
        super().__init__(encoder, encoder.logits[0])
