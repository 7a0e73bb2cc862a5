"""The report of `foclip detect`: verdicts, the most suspicious first, each picture beside the probe that told most."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from markupsafe import Markup
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from foclip import files
from foclip.data import images
from foclip.data.images import to_gray, to_tensor
from foclip.data.prompts import Prompts
from foclip.detection import Detection, Detector, FullDetector, transformation
from foclip.detection.detector import FIELDS
from foclip.detection.peers import FDR
from foclip.errors import ImageError
from foclip.models.batching import pass_rows, raw_scores
from foclip.models.scorer import EmbeddingScorer
from foclip.models.scores.clip import CLIPScore
from foclip.outcome import Outcome, Progress, no_progress
from foclip.reports import drawing, html

#: Files of the report in its folder; `foclip fool` may have a report.html of its own there.
PAGE, TABLE = "verdicts.html", "verdicts.csv"
#: Pictures on the page, prompts of each, and p-values from which their histogram says something.
SHOWN, PROMPTS, ENOUGH = 200, 3, 20
#: Columns of the table; an input that failed has an image, the verdict "failed" and an error.
COLUMNS = (*FIELDS, "error")
#: The transformation that takes away what nobody sees, and the points of the path to it (the middles of equal parts) at
#: which the gradient is taken.
UNSEEN, POINTS = "jpeg", 8
#: Blur of the map, standard deviation as a share of the picture's longest side (pixels one by one are noise), and the
#: percentile of the map that is drawn at full strength.
SPREAD, STRONG = 0.04, 99.5
#: What makes a cell a formula where a spreadsheet opens the table.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(
    out: Path,
    found: Outcome[Detection],
    scorer: EmbeddingScorer,
    detector: Detector | None,
    bound: float | None = None,
    progress: Progress = no_progress,
) -> None:
    """Write `verdicts.csv`, then `verdicts.html`, which is `page`, into a folder."""
    files.write_text(out / TABLE, table(found))
    files.write_text(out / PAGE, page(found, scorer, detector, bound, progress))


def page(
    found: Outcome[Detection],
    scorer: EmbeddingScorer,
    detector: Detector | None,
    bound: float | None = None,
    progress: Progress = no_progress,
    read: Callable[[str], Image.Image] = images.read,
) -> str:
    """The verdicts as HTML.

    `scorer` and `detector` are those that `detect` had, and `bound` is its `fpr`, or without a detector its `fdr`.
    Progress is in pictures drawn. `read` gives a picture by what its verdict calls it; an `ImageError` if it has gone.
    """
    shown = suspicious_first(found.results)[:SHOWN]
    hardened = detector.hardened if detector else {}
    report, items = progress("drawing", len(shown)), []
    called = html.names([detection.image for detection in shown])
    for number, detection in enumerate(shown, start=1):
        pictures = _shown(detection, scorer, hardened, read)
        items.append({"detection": detection, "shown": pictures, "name": called[number - 1]})
        report(number)
    decided_by = sorted({detection.decided_by for detection in found})
    by_thresholds = decided_by == ["rule"] and bound is None
    if bound is None:
        bound = detector.fpr if detector else FDR
    return html.page(
        "detected.html",
        items=items,
        most=PROMPTS,
        counts=Counter(detection.verdict for detection in found),
        total=len(found),
        failures=found.failures,
        scorer=scorer,
        detector=detector,
        decided_by=decided_by,
        bound=bound,
        hardened=hardened,
        rule=detector.rule.statistic if isinstance(detector, FullDetector) and by_thresholds else None,
        p_values=_p_values(found.results),
        table=TABLE,
    )


def suspicious_first(detections: Sequence[Detection]) -> list[Detection]:
    """Tampered pictures first, each kind by p-value, then by what the probe loses; those without a p-value last."""

    def order(detection: Detection) -> tuple[bool, float, float, float]:
        p = 2.0 if detection.p_value is None else detection.p_value
        return not detection.tampered, p, -(detection.drop or 0.0), -(detection.drift or 0.0)

    return sorted(detections, key=order)


def table(found: Outcome[Detection]) -> str:
    """All verdicts as CSV in the order of the inputs, failed ones at the end; prompts as a JSON list."""
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    for detection in found:
        probes, prompts = "; ".join(detection.probes), json.dumps(detection.prompts, ensure_ascii=False)
        rows.writerow(vars(detection) | {"image": _plain(detection.image), "probes": probes, "prompts": prompts})
    for failure in found.failures:
        rows.writerow({"image": _plain(failure.source), "verdict": "failed", "error": _plain(failure.reason)})
    return text.getvalue()


def _plain(name: str) -> str:
    """A file's name that no spreadsheet takes for a formula: the same file, named from the current folder."""
    return f"./{name}" if name.startswith(FORMULA) else name


def _shown(
    detection: Detection, scorer: EmbeddingScorer, hardened: Collection[str], read: Callable[[str], Image.Image]
) -> list[tuple[str, str]]:
    """The picture, its probe and its map, with their captions; nothing if the file has gone since."""
    try:
        found = read(detection.image)
    except ImageError:
        return []
    seen = scorer.preprocess.image(found)
    assert isinstance(seen, Tensor)  # a scorer with one encoder has one input
    if seen.is_floating_point():  # as it is for HPSv2
        seen = (seen.clamp(0, 1) * 255).round().to(torch.uint8)
    shown, small = [("picture", html.picture(found))], images.to_image(seen)
    if detection.probe in hardened:  # that encoder looks at the picture itself
        shown.append((f"its probe: what {detection.probe} sees is the same picture", html.picture(small)))
    elif detection.probe:
        probe = transformation(detection.probe, detection.seed)
        shown.append((f"its probe, {detection.probe}", html.picture(probe.exact(small))))
    prompts, by = tuple(detection.prompts), scorer
    if not prompts and detection.zero_shot_caption:  # told by its cosine, whatever the score
        prompts, by = (detection.zero_shot_caption,), CLIPScore(scorer.encoder)
    if detection.tampered and prompts:
        part = heat_map(by, small, prompts)
        caption = f"map: what JPEG takes away adds {float(part.sum()):+.3f} to the score"
        rows, columns = scorer.preprocess.region(found.height, found.width)
        cropped = found.crop((columns.start, rows.start, columns.stop, rows.stop))
        cropped.thumbnail((html.THUMBNAIL, html.THUMBNAIL))
        shown.append((caption, html.picture(drawn(part, cropped))))
    return shown


def heat_map(scorer: EmbeddingScorer, picture: Image.Image, prompts: Prompts) -> Tensor:
    r"""Where a picture was changed: what of each pixel's score, the mean over the prompts, JPEG takes away.

    Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365, equation 1) from the picture :math:`x'` saved as
    JPEG to the picture :math:`x`, as the model sees both, here for the score :math:`s`:

    .. math:: h_i = (x_i - x'_i) \int_0^1 \frac{\partial s}{\partial x_i}\bigl(x' + a (x - x')\bigr) \, da

    They add up to :math:`s(x) - s(x')`, so what is drawn is that difference, spread over the pixels that make it. The
    score of a clean picture hangs on what JPEG keeps; that of a fooled one on what was added and the eye does not miss.
    Of the transformations that move nothing JPEG is the one whose map shows best where a picture was changed.

    The picture has the encoder's own size, as its preprocessing makes it. The map is float32 (H, W), in units of the
    score; it adds up to what JPEG takes from the score, where no figure is 0.
    """
    seen, plain = (to_tensor(p).to(scorer.device) / 255 for p in (picture, transformation(UNSEEN).exact(picture)))
    change, total = seen - plain, torch.zeros_like(seen)
    rows, targets = pass_rows(scorer, POINTS, 2), scorer.encode_prompts(prompts)
    for part in torch.split((torch.arange(POINTS, device=scorer.device) + 0.5) / POINTS, rows):
        path = (plain + part.view(-1, 1, 1, 1) * change).requires_grad_()
        values = raw_scores(scorer, list(torch.split(path, 1)), [targets] * len(path), rows)
        (gradient,) = torch.autograd.grad(torch.cat(values).mean(dim=1).sum(), path)
        total += gradient.sum(dim=0)
    return (scorer.info.scale * change * total / POINTS).sum(dim=0).cpu()


def spread(heat_map: Tensor) -> np.ndarray:
    """The map (H, W) blurred, so that what adds to the score and what takes from it next to it cancel."""
    return np.asarray(gaussian_filter(heat_map.numpy(), SPREAD * max(heat_map.shape)))


def drawn(heat_map: Tensor, picture: Image.Image) -> Image.Image:
    """What raises the score, as heat over the picture in gray, which may be larger than the map."""
    blurred = spread(heat_map).clip(min=0).astype(np.float32)
    blurred = np.asarray(Image.fromarray(blurred).resize(picture.size, Image.Resampling.BICUBIC)).clip(min=0)
    strength = (blurred / max(float(np.percentile(blurred, STRONG)), 1e-12)).clip(0, 1)
    colours, opacity = matplotlib.colormaps["inferno"](strength)[..., :3] * 255, strength[..., None]
    mixed = (1 - opacity) * np.asarray(to_gray(picture)) + opacity * colours
    return Image.fromarray(mixed.round().astype(np.uint8))


def _p_values(detections: Sequence[Detection]) -> Markup | None:
    """Histogram of the p-values; None for few."""
    values = [detection.p_value for detection in detections if detection.p_value is not None]
    if len(values) < ENOUGH:
        return None
    plot, axes = drawing.axes_of(4.6, 2.2, "p-value", "pictures")
    axes.hist(values, bins=20, range=(0, 1), color=drawing.CLEAN)
    axes.axhline(len(values) / 20, color=drawing.FOOLED, linewidth=1, linestyle="--")
    return drawing.svg(plot)
