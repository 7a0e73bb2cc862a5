"""Modality gap: where do fooled pictures lie, and does closing the gap stop them?

Pictures and texts lie in two separate regions of the space (Liang et al. 2022, arXiv 2203.02053), and
fooled pictures may use the empty space between. CLIPMasterPrints (arXiv 2307.03798) proposes to
move the two regions together. Here both are moved by equal parts along the difference of their
centroids and brought back to unit length. Scores of all pairs rise by that, so scores
are also given in standard deviations over 1,000 class captions (z), which no common shift can change.
What is stopped: fooled pictures that outrank genuine matches; by an attacker who does not know of the
shift, and by one who does. What it costs: pictures whose best caption is no longer the same.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

from foclip.data.prompts import imagenet
from foclip.models import Encoder
from foclip.models.scorer import Targets
from foclip.models.scores import CLIPScore
from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate, groups, mean, percent, share

#: Share of the gap that is closed.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ORIGINAL, FOOLED, AWARE = "original", "fooled", "fooled, knowing the shift"


class Shifted(CLIPScore):
    """CLIPScore after pictures and texts have been moved towards each other.

    Args:
        encoder: The encoder.
        gap: Centroid of pictures minus centroid of texts, (D,).
        share: Share of the gap that is closed, in [0, 1].
    """

    def __init__(self, encoder: Encoder, gap: Tensor, share: float) -> None:
        super().__init__(encoder)
        self.step = 0.5 * share * gap
        self.share = share

    @property
    def model(self) -> str:
        return f"{self.encoder.name}, {self.share:.0%} of the gap closed"

    @property
    def fingerprint(self) -> str:
        shift = hashlib.sha256(self.step.cpu().numpy().tobytes()).hexdigest()
        return f"{super().fingerprint} {shift}"

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return normalize(super().encode_prompts(prompts) + self.step, dim=-1)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        return super().compare(normalize(embeddings - self.step, dim=-1), targets)


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures and texts × quantities: places in the space, and figures per share of the gap closed."""
    captions, encoder = tuple(imagenet(1000)), context.score.encoder
    plain = CLIPScore(encoder)
    fooled = context.fool(context.default_attack(), context.pictures, score=plain)
    clean = _embed(context, context.examples)
    texts = plain.encode_prompts(captions)
    rows = _places(context, clean, texts, fooled)
    gap = context.vector("gap", context.examples, captions, lambda: clean.mean(dim=0) - texts.mean(dim=0))
    own = context.scores(context.pictures, captions, plain).argmax(axis=1)
    for closed in context.with_progress(SHARES):
        shifted = Shifted(encoder, gap, closed) if closed else plain
        aware = context.fool(context.default_attack(), context.pictures, score=shifted)
        pictures = normalize(clean - 0.5 * closed * gap, dim=-1)
        distance = float((pictures.mean(dim=0) - shifted.encode_prompts(captions).mean(dim=0)).norm())
        rows.append({"kind": "gap", "shift": closed, "quantity": "distance of the centroids", "value": distance})
        before = context.scores(context.pictures, captions, shifted)
        for kind, current in ((ORIGINAL, context.pictures), (FOOLED, fooled), (AWARE, aware)):
            scores, every = (
                context.scores(current, None, shifted).mean(axis=1),
                context.scores(current, captions, shifted),
            )
            for number, picture in enumerate(current):
                genuine = before[number]
                values: dict[str, float] = {
                    "score": scores[number],
                    "z": _z(scores[number], every[number]),
                    "z of the genuine caption": _z(genuine[own[number]], genuine),
                    "best caption kept": float(genuine.argmax() == own[number]),
                }
                who = {"kind": kind, "name": picture.name, "photo": picture.photo, "shift": closed}
                rows += [who | {"quantity": quantity, "value": float(v)} for quantity, v in values.items()]
    return pd.DataFrame(rows)


def _embed(context: StudyContext, current: Sequence[Picture]) -> Tensor:
    """Unit vectors (B, D), one by one, so that they do not depend on each other even by rounding."""
    return torch.cat([context.score.encoder.encode_pictures([picture.image]) for picture in current])


def _z(score: float, scores: npt.NDArray[np.float64]) -> float:
    return float((score - scores.mean()) / max(scores.std(), 1e-9))


def _places(context: StudyContext, clean: Tensor, texts: Tensor, fooled: Sequence[Picture]) -> list[dict[str, Any]]:
    """First two principal components and distances to both centroids, of pictures and texts."""
    artworks = context.score.encoder.encode_texts(context.prompts)
    shown = {
        ORIGINAL: (_embed(context, context.pictures), [picture.name for picture in context.pictures]),
        FOOLED: (_embed(context, fooled), [picture.name for picture in fooled]),
        "prompt": (artworks, list(context.prompts)),
        "caption": (texts[::10], imagenet(1000)[::10]),
    }
    vectors = torch.cat([clean, artworks, texts[::10]])
    center = vectors.mean(dim=0)
    directions = torch.linalg.svd(vectors - center, full_matrices=False).Vh[:2]
    directions = directions * torch.sign(directions.sum(dim=1, keepdim=True))  # an SVD's signs are arbitrary
    rows = []
    for kind, (found, names) in shown.items():
        projected = ((found - center) @ directions.T).tolist()
        to_pictures = (found - clean.mean(dim=0)).norm(dim=1).tolist()
        to_texts = (found - texts.mean(dim=0)).norm(dim=1).tolist()
        for name, (x, y), pictures, captions in zip(names, projected, to_pictures, to_texts, strict=True):
            values = {"x": x, "y": y, "distance to pictures": pictures, "distance to texts": captions}
            photo = name if kind in (ORIGINAL, FOOLED) else None
            who = {"kind": kind, "name": name, "photo": photo}
            rows += [who | {"quantity": quantity, "value": value} for quantity, value in values.items()]
    return rows


def report(table: pd.DataFrame) -> StudyReport:
    """The map, and what closing the gap stops and costs."""
    gaps = table[table.kind == "gap"].set_index("shift").value
    wide = table[table["shift"].notna() & (table.kind != "gap")].pivot_table(
        index=["shift", "kind", "photo"], columns="quantity", values="value", sort=False
    )
    wide = wide.reset_index().assign(outranks=lambda part: (part.z > part["z of the genuine caption"]).astype(float))
    parts = groups(wide, "shift", "kind")
    summary, outranked, kept = [], {}, {}
    for closed in SHARES:
        original = parts[closed, ORIGINAL]
        kept[closed] = share(original["best caption kept"], original.photo)
        row = {
            "gap closed": percent(closed),
            "distance of the centroids": f"{gaps[closed]:.3f}",
            "best caption kept": f"{kept[closed]:.0%}",
            "z of the genuine caption": f"{original['z of the genuine caption'].mean():.2f}",
        }
        for kind in (ORIGINAL, FOOLED, AWARE):
            part = parts[closed, kind]
            outranked[kind, closed] = share(part.outranks, part.photo)
            row[f"score, {kind}"] = f"{part.score.mean():.3f}"
            row[f"z, {kind}"] = f"{mean(part.z, part.photo):.2f}"
            row[f"{kind}: outranks the genuine caption"] = f"{outranked[kind, closed]:.0%}"
        summary.append(row)
    wholly = SHARES[-1]
    findings = [
        _position(table),
        f"Closing the gap wholly takes the distance of the centroids from {gaps[0.0]:.2f} to {gaps[wholly]:.2f}; the "
        f"best caption stays the same for {kept[wholly]:.0%} of the originals.",
        f"Pictures fooled without knowing of the shift outrank the genuine caption in {outranked[FOOLED, 0.0]:.0%} of "
        f"cases before and {outranked[FOOLED, wholly]:.0%} after; pictures fooled with it in "
        f"{outranked[AWARE, wholly]:.0%}. {_verdict(outranked[FOOLED, 0.0], outranked[AWARE, wholly])}",
    ]
    series = {kind: (SHARES, [outranked[kind, closed] for closed in SHARES]) for kind in (ORIGINAL, FOOLED, AWARE)}
    series["best caption kept"] = (SHARES, [kept[closed] for closed in SHARES])
    figures = {
        "map": _map(table),
        "shift": plots.lines(series, "share of the gap closed", "share that outranks the genuine caption"),
    }
    return StudyReport(pd.DataFrame(summary), figures, findings)


def _verdict(before: Estimate, after: Estimate) -> str:
    """Whether the mitigation stops an attacker who knows of it."""
    if before.value < 0.5:
        return "Fooled pictures rarely outrank genuine captions here, so there is little to stop."
    if after.value < 0.5:
        return "The mitigation stops even an attacker who knows of it."
    return "The mitigation does not stop an attacker who knows of it."


def _position(table: pd.DataFrame) -> str:
    """Whether fooled pictures leave the pictures, and whether they reach the texts."""
    distances = table[table["shift"].isna()].pivot_table(index=["kind", "photo"], columns="quantity", values="value")
    before, after = distances.loc[ORIGINAL], distances.loc[FOOLED]
    moved = {
        where: mean(after[f"distance to {where}"] - before[f"distance to {where}"], after.index)
        for where in ("pictures", "texts")
    }
    return (
        f"Fooled pictures lie {moved['pictures']:+.3f} from the centroid of pictures and {moved['texts']:+.3f} from "
        f"that of texts, compared with their originals (distances {before['distance to pictures'].mean():.2f} and "
        f"{before['distance to texts'].mean():.2f})."
    )


def _map(table: pd.DataFrame) -> Figure:
    places = table[table["shift"].isna()].pivot_table(index=["kind", "name"], columns="quantity", values="value")
    plot = Figure(figsize=(5.2, 4.2))
    axes = plot.subplots()
    styles = {"caption": ("#d5d2da", "."), "prompt": ("#1a5fb4", "s"), ORIGINAL: (plots.ORIGINAL, "o")}
    for kind, (color, marker) in (styles | {FOOLED: (plots.FOOLED, "^")}).items():
        part = places.loc[kind]
        axes.scatter(part.x, part.y, color=color, marker=marker, s=22, label=kind)
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second principal component")
    axes.legend(frameon=False, fontsize=8)
    plots.tidy(axes)
    return plot


study = Study(__name__, __doc__, table, report)
