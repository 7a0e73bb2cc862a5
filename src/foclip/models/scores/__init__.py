"""Scores: one file each. `foclip.models.scorer` says what a score is, `foclip.models.registry` finds one by name.

Those that need transformers are not imported here.
"""

from foclip.models.scores.aesthetic import Aesthetic
from foclip.models.scores.clip import CLIPScore, EmbeddingScore
from foclip.models.scores.clip_iqa import CLIPIQA
from foclip.models.scores.ensemble import Ensemble, MeanEnsemble, MinEnsemble
from foclip.models.scores.hps import HPSv2, HPSv21
from foclip.models.scores.pickscore import PickScore
from foclip.models.scores.siglip import SigLIPScore

__all__ = ["CLIPIQA", "Aesthetic", "CLIPScore", "EmbeddingScore", "Ensemble", "HPSv2", "HPSv21", "MeanEnsemble"]
__all__ += ["MinEnsemble", "PickScore", "SigLIPScore"]
