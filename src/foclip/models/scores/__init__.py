"""Scores: one file each. `foclip.models.scorer` says what a score is, `foclip.models.registry` finds one by name."""

from foclip.models.scores.base import EmbeddingScore
from foclip.models.scores.clip import CLIPScore
from foclip.models.scores.clip_iqa import CLIPIQA
from foclip.models.scores.ensemble import Ensemble, MeanEnsemble, MinEnsemble

__all__ = ["CLIPIQA", "CLIPScore", "EmbeddingScore", "Ensemble", "MeanEnsemble", "MinEnsemble"]

# Old names, until callers are moved (foclip.models.legacy).
from foclip.data.prompts import Prompts as Prompts
from foclip.data.prompts import as_prompts as as_prompts
from foclip.models.legacy import LegacyScore as Score
from foclip.models.registry import DEFAULT as DEFAULT
from foclip.models.registry import available as available
from foclip.models.registry import resolve as resolve

__all__ += ["DEFAULT", "Prompts", "Score", "as_prompts", "available", "resolve"]
