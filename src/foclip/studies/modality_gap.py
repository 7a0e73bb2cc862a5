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

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

from foclip.data.prompts import imagenet
from foclip.models import Encoder
from foclip.models.scorer import Targets
from foclip.models.scores import CLIPScore
from foclip.reports import drawing
from foclip.studies.harness import Rows, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Floats, groups, mean, percent, quantities, share

#: Share of the gap that is closed.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ORIGINAL, FOOLED, AWARE = "original", "fooled", "fooled, knowing the shift"


class Shifted(CLIPScore):
    """CLIPScore after a share in [0, 1] of the gap, centroid of pictures minus that of texts (D,), has been closed."""

    def __init__(self, encoder: Encoder, gap: Tensor, share: float) -> None:
        super().__init__(encoder)
        self.step, self.share = 0.5 * share * gap, share

    @property
    def model(self) -> str:
        return f"{self.encoder.name}, {self.share:.0%} of the gap closed"

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {hashlib.sha256(self.step.cpu().numpy().tobytes()).hexdigest()}"

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return normalize(super().encode_prompts(prompts) + self.step, dim=-1)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        return super().compare(normalize(embeddings - self.step, dim=-1), targets)


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures and texts × quantities: places in the space, and figures per share of the gap closed."""
    captions, encoder = tuple(imagenet(1000)), context.score.encoder
    plain, attack, originals = CLIPScore(encoder), context.default_attack(), context.pictures
    fooled = context.fool(attack, originals, score=plain)
    clean = _embed(context, context.examples)
    texts = plain.encode_prompts(captions)
    rows = _places(context, clean, texts, fooled)
    gap = context.vector("gap", context.examples, captions, lambda: clean.mean(dim=0) - texts.mean(dim=0))
    own = context.scores(originals, captions, plain).argmax(axis=1)
    for closed in context.with_progress(SHARES):
        shifted = Shifted(encoder, gap, closed) if closed else plain
        aware = context.fool(attack, originals, score=shifted)
        pictures = normalize(clean - 0.5 * closed * gap, dim=-1)
        distance = float((pictures.mean(dim=0) - shifted.encode_prompts(captions).mean(dim=0)).norm())
        rows.append({"kind": "gap", "shift": closed, "quantity": "distance of the centroids", "value": distance})
        genuine = context.scores(originals, captions, shifted)
        for kind, current in ((ORIGINAL, originals), (FOOLED, fooled), (AWARE, aware)):
            scores = context.scores(current, None, shifted).mean(axis=1)
            every = context.scores(current, captions, shifted)
            for number, picture in enumerate(current):
                who = {"kind": kind, "name": picture.name, "photo": picture.photo, "shift": closed}
                values = {
                    "score": float(scores[number]),
                    "z": _z(scores[number], every[number]),
                    "z of the genuine caption": _z(genuine[number][own[number]], genuine[number]),
                    "best caption kept": float(genuine[number].argmax() == own[number]),
                }
                rows += quantities(who, values)
    return pd.DataFrame(rows)


def _embed(context: StudyContext, current: Sequence[Picture]) -> Tensor:
    """Unit vectors (B, D), one by one, so that they do not depend on each other even by rounding."""
    return torch.cat([context.score.encoder.encode_pictures([picture.image]) for picture in current])


def _z(score: float, scores: Floats) -> float:
    return float((score - scores.mean()) / max(scores.std(), 1e-9))


def _places(context: StudyContext, clean: Tensor, texts: Tensor, fooled: Sequence[Picture]) -> Rows:
    """First two principal components and distances to both centroids, of pictures and texts."""
    artworks = context.score.encoder.encode_texts(context.prompts)
    kinds = {ORIGINAL: context.pictures, FOOLED: fooled}
    shown = {kind: (_embed(context, current), [each.name for each in current]) for kind, current in kinds.items()}
    shown |= {"prompt": (artworks, list(context.prompts)), "caption": (texts[::10], imagenet(1000)[::10])}
    vectors = torch.cat([clean, artworks, texts[::10]])
    center = vectors.mean(dim=0)
    directions = torch.linalg.svd(vectors - center, full_matrices=False).Vh[:2]
    directions = directions * torch.sign(directions.sum(dim=1, keepdim=True))  # an SVD's signs are arbitrary
    rows = []
    for kind, (found, names) in shown.items():
        values = {
            **dict(zip("xy", ((found - center) @ directions.T).T, strict=True)),
            "distance to pictures": (found - clean.mean(dim=0)).norm(dim=1),
            "distance to texts": (found - texts.mean(dim=0)).norm(dim=1),
        }
        for number, name in enumerate(names):
            who = {"kind": kind, "name": name, "photo": name if kind in kinds else None}
            rows += quantities(who, {quantity: float(each[number]) for quantity, each in values.items()})
    return rows


def report(table: pd.DataFrame) -> StudyReport:
    """The map, and what closing the gap stops and costs."""
    gaps = table[table.kind == "gap"].set_index("shift").value
    wide = table[table["shift"].notna() & (table.kind != "gap")]
    wide = wide.pivot_table("value", ["shift", "kind", "photo"], "quantity", sort=False).reset_index()
    wide = wide.assign(outranks=(wide.z > wide["z of the genuine caption"]).astype(float))
    parts = groups(wide, "shift", "kind")
    summary, outranked, kept = [], {}, {}
    for closed in SHARES:
        original = parts[closed, ORIGINAL]
        kept[closed] = share(original["best caption kept"], original.photo)
        row = {"gap closed": percent(closed), "distance of the centroids": f"{gaps[closed]:.3f}"}
        row["best caption kept"] = f"{kept[closed]:.0%}"
        row["z of the genuine caption"] = f"{original['z of the genuine caption'].mean():.2f}"
        for kind in (ORIGINAL, FOOLED, AWARE):
            part = parts[closed, kind]
            outranked[kind, closed] = share(part.outranks, part.photo)
            row[f"score, {kind}"] = f"{part.score.mean():.3f}"
            row[f"z, {kind}"] = f"{mean(part.z, part.photo):.2f}"
            row[f"{kind}: outranks the genuine caption"] = f"{outranked[kind, closed]:.0%}"
        summary.append(row)
    wholly = SHARES[-1]
    before, after, aware = outranked[FOOLED, 0.0], outranked[FOOLED, wholly], outranked[AWARE, wholly]
    verdict = f"The mitigation {'stops even' if aware.value < 0.5 else 'does not stop'} an attacker who knows of it."
    if before.value < 0.5:
        verdict = "Fooled pictures rarely outrank genuine captions here, so there is little to stop."
    findings = [
        _position(table),
        f"Closing the gap wholly takes the distance of the centroids from {gaps[0.0]:.2f} to {gaps[wholly]:.2f}; "
        f"the best caption stays the same for {kept[wholly]:.0%} of the originals.",
        f"Pictures fooled without knowing of the shift outrank the genuine caption in {before:.0%} of cases before and "
        f"{after:.0%} after; pictures fooled with it in {aware:.0%}. {verdict}",
    ]
    series = {kind: (SHARES, [outranked[kind, closed] for closed in SHARES]) for kind in (ORIGINAL, FOOLED, AWARE)}
    series["best caption kept"] = (SHARES, list(kept.values()))
    shift = plots.lines("share of the gap closed", {"share that outranks the genuine caption": series})
    return StudyReport(pd.DataFrame(summary), {"map": _map(table), "shift": shift}, findings)


def _position(table: pd.DataFrame) -> str:
    """Whether fooled pictures leave the pictures, and whether they reach the texts."""
    distances = table[table["shift"].isna()].pivot_table(index=["kind", "photo"], columns="quantity", values="value")
    before, change = distances.loc[ORIGINAL], distances.loc[FOOLED] - distances.loc[ORIGINAL]
    pictures, texts = "distance to pictures", "distance to texts"
    return (
        f"Fooled pictures lie {mean(change[pictures], change.index):+.3f} from the centroid of pictures and "
        f"{mean(change[texts], change.index):+.3f} from that of texts, compared with their originals (distances "
        f"{before[pictures].mean():.2f} and {before[texts].mean():.2f})."
    )


def _map(table: pd.DataFrame) -> Figure:
    places = table[table["shift"].isna()].pivot_table(index=["kind", "name"], columns="quantity", values="value")
    plot, axes = drawing.axes_of(5.2, 4.2, "first principal component", "second principal component")
    styles = {"caption": ("#d5d2da", "."), "prompt": ("#1a5fb4", "s"), ORIGINAL: (plots.ORIGINAL, "o")}
    for kind, (color, marker) in (styles | {FOOLED: (plots.FOOLED, "^")}).items():
        part = places.loc[kind]
        axes.scatter(part.x, part.y, color=color, marker=marker, s=22, label=kind)
    axes.legend(frameon=False, fontsize=8)
    return plot


study = Study(__name__, __doc__, table, report, judged=False)
