import math

import numpy as np
import pytest
import torch
from PIL import Image

from foclip.attacks import FoCLIP
from foclip.attacks import objective
from foclip.detection import Detector, measure
from foclip.detection.detector import shipped
from foclip.encoders import Encoder
from foclip.errors import UsageError
from foclip.images import to_image, to_tensor
from foclip.metrics import CLIPScore, RobustCLIPScore, clip_score, robust_clip_score
from foclip.score import score_picture

CAPTIONS = ["a photo of an astronaut.", "a photo of a cat.", "a photo of a cup.", "a photo of a rocket."]


@pytest.fixture(scope="module")
def detector(mini: Encoder) -> Detector:
    return shipped(mini)


def test_clip_score_is_the_mean_of_scores(mini: Encoder, small_photos: list[Image.Image]) -> None:
    texts = mini.encode_texts(CAPTIONS)
    expected = np.mean([score_picture(mini, p, t[None])[0] for p, t in zip(small_photos, texts, strict=True)])
    assert float(clip_score(small_photos, CAPTIONS, mini)) == pytest.approx(expected, abs=1e-5)
    metric = CLIPScore(mini, scale=100)
    for picture, caption in zip(small_photos, CAPTIONS, strict=True):
        metric.update([picture], [caption])
    assert float(metric.compute()) == pytest.approx(40 * expected, abs=1e-3)
    metric.reset()
    assert math.isnan(float(metric.compute()))


def test_tensors_are_pictures_too(mini: Encoder, small_photos: list[Image.Image]) -> None:
    squares = [p.resize((96, 96)) for p in small_photos]
    bytes_ = torch.stack([to_tensor(p) for p in squares])
    expected = clip_score(squares, CAPTIONS, mini)
    assert torch.equal(clip_score(bytes_, CAPTIONS, mini), expected)
    assert torch.equal(clip_score(bytes_ / 255, CAPTIONS, mini), expected)
    for wrong in (bytes_[:, :1], bytes_[0], bytes_.int()):
        with pytest.raises(UsageError, match="pictures"):
            clip_score(wrong, CAPTIONS, mini)
    for captions in (CAPTIONS[:2], "four"):
        with pytest.raises(UsageError, match="captions"):
            clip_score(squares, captions, mini)


def test_the_robust_score_replaces_flagged_pictures(
    mini: Encoder, detector: Detector, small_photos: list[Image.Image]
) -> None:
    texts = mini.encode_texts(CAPTIONS)
    attack = FoCLIP(objective=objective(), steps=80, min_psnr=35.0)
    starts = [to_tensor(p) for p in small_photos]
    results = attack.run(mini, starts, [t[None] for t in texts[[1, 2, 3, 0]]])
    fooled = [to_image(f.pixels) for f in sorted(results, key=lambda f: f.index)]
    captions = [CAPTIONS[i] for i in (1, 2, 3, 0)]
    result = robust_clip_score(fooled, captions, mini, detector)
    found = measure(mini, fooled, [t[None] for t in texts[[1, 2, 3, 0]]], detector.transformations)
    flagged = [detector.judge(s).verdict == "tampered" for s in found]
    assert float(result["flagged"]) == np.mean(flagged) > 0
    expected = np.mean([s.scores["gray"] if f else s.score for s, f in zip(found, flagged, strict=True)])
    assert float(result["robust_clip_score"]) == pytest.approx(expected, abs=1e-5)
    assert result["robust_clip_score"] < result["clip_score"]
    untouched = robust_clip_score(small_photos, CAPTIONS, mini, detector)
    assert float(untouched["flagged"]) == 0
    assert untouched["robust_clip_score"] == untouched["clip_score"]


def test_states_add_up_over_processes(mini: Encoder, detector: Detector, small_photos: list[Image.Image]) -> None:
    """What torchmetrics does after a distributed run: states summed, then computed."""
    whole = RobustCLIPScore(mini, detector)
    parts = [RobustCLIPScore(mini, detector) for _ in range(2)]
    whole.update(small_photos, CAPTIONS)
    parts[0].update(small_photos[:1], CAPTIONS[:1])
    parts[1].update(small_photos[1:], CAPTIONS[1:])
    merged = RobustCLIPScore(mini, detector)
    for name in merged._defaults:
        assert merged._reductions[name] is torchmetrics_sum()
        setattr(merged, name, getattr(parts[0], name) + getattr(parts[1], name))
    merged._update_count = 1
    for key, value in whole.compute().items():
        assert float(merged.compute()[key]) == pytest.approx(float(value), abs=1e-6)


def torchmetrics_sum() -> object:
    from torchmetrics.utilities.data import dim_zero_sum

    return dim_zero_sum
