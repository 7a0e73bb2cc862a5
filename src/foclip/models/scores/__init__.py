"""Scores: one file each. `foclip.models.scorer` says what a score is, `foclip.models.registry` finds one by name."""

from foclip.models.scores.clip import CLIPScore, EmbeddingScore
from foclip.models.scores.clip_iqa import CLIPIQA
from foclip.models.scores.ensemble import Ensemble, MeanEnsemble, MinEnsemble

__all__ = ["CLIPIQA", "CLIPScore", "EmbeddingScore", "Ensemble", "MeanEnsemble", "MinEnsemble"]
