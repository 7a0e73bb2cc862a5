"""The attacker who knows the detector itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, fooled_by, scores_of
from PIL import Image
from torch import Tensor

from foclip.attacks import FoCLIP, make_plan, objective
from foclip.data.images import to_image, to_tensor, write
from foclip.detection import (
    TRANSFORMATIONS,
    FullDetector,
    Prober,
    ProbeSession,
    hardened_scores,
    measure,
    transformation,
)
from foclip.detection.adaptive import MARGIN, WEIGHT, DetectorAwareScore
from foclip.detection.detector import shipped
from foclip.detection.features import UNCROPPING
from foclip.detection.transformations import RANDOM
from foclip.errors import UsageError
from foclip.models.batching import raw_scores
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

PROMPTS = ("a photo of a cat.",)
ATTACK = make_plan(FoCLIP, objective=objective(), steps=18, budgets="psnr:35")


@pytest.fixture(scope="module")
def detector(score: CLIPScore) -> FullDetector:
    return shipped(score.encoder)


@pytest.fixture(scope="module")
def evading(score: CLIPScore, detector: FullDetector) -> DetectorAwareScore:
    return DetectorAwareScore(score, detector, hardened_scores(score))


def raw(scorer: Scorer, pixels: list[Tensor], rows: int) -> list[Tensor]:
    """Raw scores of small pictures (3, h, w) in [0, 1] in one pass, as attacks ask for them."""
    return raw_scores(scorer, [p[None] for p in pixels], [scorer.encode_prompts(PROMPTS)] * len(pixels), rows)


def passes_by(detector: FullDetector, evading: DetectorAwareScore, pictures: list[Image.Image]) -> list[float]:
    """What the detector's own measurement says of files: the least of log-odds above their limit."""
    cascade = detector.combined.statistic
    found = measure(evading.scorer, pictures, [PROMPTS] * len(pictures), cascade.probes, evading.hardened)
    return [
        min(step.log_odds(each) - limit for step, limit in zip(cascade.steps, evading.limits, strict=True))
        for each in found
    ]


def before_headings(detector: FullDetector) -> FullDetector:
    """The detector, with the relative drop in place of the heading: features of older files."""
    cascade = detector.combined.statistic
    steps = [
        replace(step, inputs=[name.replace("heading_", "relative_drop_") for name in step.inputs])
        for step in cascade.steps
    ]
    return replace(detector, combined=replace(detector.combined, statistic=replace(cascade, steps=steps)))


@pytest.mark.slow
@pytest.mark.parametrize("former", [False, True])
def test_it_knows_what_the_detector_measures(
    former: bool, detector: FullDetector, score: CLIPScore, small_photos: list[Image.Image]
) -> None:
    detector = before_headings(detector) if former else detector
    evading = DetectorAwareScore(score, detector, hardened_scores(score))
    pictures = [to_tensor(photo) for photo in small_photos[:2]]
    files = [
        fooled.pixels for fooled in fooled_by(make_plan(FoCLIP, steps=20, budgets="psnr:38"), score, pictures, PROMPTS)
    ]
    wanted = passes_by(detector, evading, [to_image(pixels) for pixels in files])
    seen = [score.preprocess.image(to_image(pixels)) / 255 for pixels in files]
    plain = raw(score, seen, 4)
    for own, value, suspicion in zip(raw(evading, seen, 4), plain, wanted, strict=True):
        price = WEIGHT * score.info.floor / score.info.scale * max(suspicion + MARGIN, 0)
        assert price > 0
        assert float(value - own) == pytest.approx(price, rel=0.02)


@pytest.fixture(scope="module")
def evaded(evading: DetectorAwareScore, small_photos: list[Image.Image]) -> list[Image.Image]:
    """What the attacker makes of photos at 35 dB."""
    pictures = [to_tensor(photo) for photo in small_photos[:3]]
    return [to_image(fooled.pixels) for fooled in fooled_by(ATTACK, evading, pictures, PROMPTS)]


@pytest.mark.slow
def test_its_pictures_are_less_suspicious_and_its_figures_those_of_the_score(
    detector: FullDetector,
    evading: DetectorAwareScore,
    evaded: list[Image.Image],
    score: CLIPScore,
    small_photos: list[Image.Image],
) -> None:
    pictures = [to_tensor(photo) for photo in small_photos[:3]]
    plain = [to_image(fooled.pixels) for fooled in fooled_by(ATTACK, score, pictures, PROMPTS)]
    suspicions = [passes_by(detector, evading, files) for files in (plain, evaded)]
    assert all(after < before - 1 for before, after in zip(*suspicions, strict=True))
    assert scores_of(evading, evaded[0], PROMPTS) == scores_of(score, evaded[0], PROMPTS)
    for photo, picture in zip(small_photos, evaded, strict=False):
        assert scores_of(score, picture, PROMPTS)[0] > scores_of(score, photo, PROMPTS)[0] + 0.2


@pytest.mark.slow
def test_who_draws_probes_pays_the_mean_over_them(
    detector: FullDetector, evading: DetectorAwareScore, score: CLIPScore, small_photos: list[Image.Image]
) -> None:
    (fooled,) = fooled_by(make_plan(FoCLIP, steps=20, budgets="psnr:38"), score, [to_tensor(small_photos[0])], PROMPTS)
    seen = [score.preprocess.image(to_image(fooled.pixels)) / 255]
    cascade = detector.combined.statistic
    # By all probes at once: the first one, of a hardened encoder, has no random amount.
    whole = replace(cascade, exit_thresholds=[-1e6] * len(cascade.exit_thresholds))
    judge = replace(detector, combined=replace(detector.combined, statistic=whole))

    def value(*draws: int | None) -> float:
        return float(raw(DetectorAwareScore(score, judge, evading.hardened, draws), seen, 2)[0])

    assert len({value(None), value(0), value(1)}) == 3
    assert value(0, 1) == pytest.approx((value(0) + value(1)) / 2, abs=1e-4)
    assert DetectorAwareScore(score, detector, evading.hardened, (0,)).fingerprint != evading.fingerprint


def test_probes_taken_one_by_one_tell_what_they_tell_together(
    score: CLIPScore, small_photos: list[Image.Image]
) -> None:
    prober, probes = Prober(score), ("webp", "shrink96", "crop")
    views, prompts = [prober.preprocess(photo) for photo in small_photos[:2]], [PROMPTS, ()]
    session = ProbeSession(prober, views, prompts, captions=True)
    session.probe((probes[0],), (0,), rows=2)
    session.probe((probes[1],), (1,), rows=2)
    session.probe((probes[0],), (1,), rows=2)  # in another order, and together with a picture that took others
    session.probe((probes[1],), (0,), rows=2)
    session.probe((probes[2],), (0, 1), rows=2)
    for one, other in zip(session.found, prober.measure(views, prompts, probes, captions=True), strict=True):
        assert one.zero_shot_caption == other.zero_shot_caption
        for figures in ("drifts", "drops", "absolute_drops", "headings", "caption_drops", "caption_headings"):
            assert getattr(one, figures) == pytest.approx(getattr(other, figures), abs=1e-4), figures


@pytest.mark.slow
def test_hardened_encoders_and_what_comes_with_them_do_not_choose_the_caption(
    score: CLIPScore, small_photos: list[Image.Image]
) -> None:
    hardened, photos, probes = hardened_scores(score), small_photos, ("webp",)
    alone = measure(score, photos, [()] * len(photos), probes, captions=True)
    beside = measure(score, photos, [()] * len(photos), (UNCROPPING, *probes, *hardened), hardened, captions=True)
    for one, other in zip(alone, beside, strict=True):
        assert other.caption_headings.keys() == {UNCROPPING, *probes, *hardened}
        found = {probe: other.caption_headings[probe] for probe in probes}
        assert found == pytest.approx(one.caption_headings, abs=1e-5)


@pytest.mark.parametrize("name", RANDOM)
def test_probes_are_drawn_by_number(name: str, small_photos: list[Image.Image]) -> None:
    picture = small_photos[0]
    usual, first, again, *others = (
        np.asarray(transformation(name, draw).exact(picture)) for draw in (None, 0, *range(4))
    )
    assert np.array_equal(first, again)
    assert any(not np.array_equal(first, other) for other in others)
    assert np.abs(usual.astype(int) - first).mean() < 40  # of the same kind
    assert transformation(name) is TRANSFORMATIONS[name]
    assert transformation("mirror", 0) is TRANSFORMATIONS["mirror"]


@pytest.mark.slow
def test_detect_with_probes_that_nobody_knows(evaded: list[Image.Image], run: Run, tmp_path: Path) -> None:
    for number, picture in enumerate(evaded):
        write(picture, tmp_path / f"{number}.png")

    def caught(*options: object) -> int:
        code, text, _ = run("detect", tmp_path, "--prompt", PROMPTS[0], "--json", *options)
        assert code == 0
        found = json.loads(text)
        assert all(row["seed"] == (options[1] if options else None) for row in found)
        return sum(row["tampered"] for row in found)

    assert caught() == 0
    assert caught("--seed", 7) >= 2
    assert run("detect", tmp_path, "--seed", "-1")[0] == 2
    assert run("detect", tmp_path, "--seed", 7, "--method", "rule")[0] == 2


def test_another_detector_is_another_score(
    detector: FullDetector, evading: DetectorAwareScore, score: CLIPScore
) -> None:
    other = DetectorAwareScore(score, replace(detector, fpr=0.05), evading.hardened)
    assert other.fingerprint != evading.fingerprint
    with pytest.raises(UsageError, match="hardened: detector mini needs mini-robust, mini-robust-46; give them"):
        DetectorAwareScore(score, detector)
    with pytest.raises(UsageError, match="needs mini-robust-46; give them"):
        DetectorAwareScore(score, detector, evading.hardened | {"mini-robust-46": score})
