"""Other people's detectors, attackers who know one, one perturbation for all pictures, and the verdicts on all."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import scores_of
from PIL import Image

from foclip.data.images import to_image, to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.detection import TwoThresholds, hardened_scores
from foclip.detection.adaptive import MARGIN, WEIGHT, DetectorAwareScore
from foclip.detection.detector import shipped
from foclip.models import load_encoder
from foclip.models.batching import raw_scores
from foclip.models.scores import CLIPScore, MinEnsemble
from foclip.studies.harness import StudyContext, StudySettings
from foclip.studies.harness.attacks import best_crop, perturbed, universal_change
from foclip.studies.harness.baselines import BaselineAwareScore, Look, Seen, known_baselines, suspicions
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.verdicts import SAYS, Verdicts

RULE, PROMPTS = TwoThresholds(0.3, 0.1), ("a photo of a cat.",)


@pytest.fixture(scope="module")
def toy(toys: None) -> CLIPScore:
    return CLIPScore(load_encoder("toy-clip:3"))


@pytest.fixture(scope="module")
def second(toys: None) -> CLIPScore:
    return CLIPScore(load_encoder("toy-clip:4"))


@pytest.fixture(scope="module")
def context(toy: CLIPScore, second: CLIPScore, tmp_path_factory: pytest.TempPathFactory) -> StudyContext:
    return StudyContext([toy, second], tmp_path_factory.mktemp("run"), StudySettings(quick=True))


@pytest.fixture(scope="module")
def pictures(toy: CLIPScore, small_photos: list[Image.Image]) -> list[Picture]:
    """Of the encoder's size, so that nothing is resized."""
    seen = [to_image(toy.encoder.preprocess.image(photo)) for photo in small_photos[:3]]
    return [Picture(f"{number}", f"{number}", image) for number, image in enumerate(seen)]


def seen(vectors: list[list[float]], guesses: list[list[float]], scores: list[float], second: float = 0.2) -> Seen:
    own = Look(torch.tensor(vectors), torch.tensor(scores), torch.tensor(guesses))
    other = Look(torch.tensor(vectors[:1]), torch.tensor([second]), torch.tensor([[0.0, 1.0]]))
    return Seen(own, other, torch.tensor([0.0, 0.75]), 0.25)


def test_each_says_what_its_paper_says(second: CLIPScore) -> None:
    known = known_baselines(RULE, second)
    told = {name: baseline.suspicion for name, baseline in known.items()}
    moved = seen([[1, 0], [0.6, 0.8]], [[1, 0], [0.5, 0.5]], [0.5, 0.2])
    assert float(told["gray"](moved)) == pytest.approx(min(0.6 / 0.3, 0.4 / 0.1))
    assert float(told["JPEG"](moved)) == pytest.approx(0.6)
    assert float(told["padding"](moved)) == pytest.approx(0.4)
    assert float(told["two encoders"](moved)) == pytest.approx(0.3)
    assert float(told["guessed caption"](moved)) == pytest.approx(0.75)
    squeezed = seen([[1, 0]] * 3, [[1, 0], [0.9, 0.1], [0.3, 0.7]], [0.5] * 3)
    assert float(told["squeezing"](squeezed)) == pytest.approx(1.4)
    sure, unsure = [1.0, 0.0], [0.5, 0.5]
    one_way = seen([[1, 0], [0.9, 0.1], [0.8, 0.2], [1, 1], [0, -1]], [sure] * 3 + [unsure] * 2, [0.5] * 5)
    assert float(told["direction"](one_way)) == pytest.approx(1)  # those of which the prediction is unsure do not count
    any_way = seen([[1, 0], [1, 0.1], [0.9, 0], [1, 1], [0, -1]], [sure] * 3 + [unsure] * 2, [0.5] * 5)
    assert float(told["direction"](any_way)) == pytest.approx(np.sqrt(0.5))
    assert "two encoders" not in known_baselines(RULE, None)


def test_who_knows_one_pays_for_what_it_says_of_the_file(
    context: StudyContext, toy: CLIPScore, second: CLIPScore, pictures: list[Picture]
) -> None:
    known = known_baselines(RULE, second)
    said = suspicions(context, known, second, pictures, PROMPTS)
    pixels = [to_tensor(picture.image)[None] / 255 for picture in pictures]
    plain = raw_scores(toy, [toy.preprocess.pixels(each) for each in pixels], [toy.encode_prompts(PROMPTS)] * 3, 3)
    for name, baseline in known.items():
        limit, scatter = said[0][name] - 0.5, 2.0
        aware = BaselineAwareScore(toy, name, baseline, limit, scatter, second)
        targets = [aware.encode_prompts(PROMPTS)] * 3
        inputs = [aware.preprocess.pixels(each.requires_grad_(True)) for each in pixels]
        raw = raw_scores(aware, inputs, targets, 3)
        for own, value, says in zip(raw, plain, said, strict=True):
            price = WEIGHT * 0.1 * max((says[name] - limit) / scatter + MARGIN, 0)
            assert float((value - own).detach()) == pytest.approx(price, abs=1e-4), name
        (gradient,) = torch.autograd.grad(raw[0].sum() - float(plain[0]), pixels[0])
        assert torch.isfinite(gradient).all()
        assert scores_of(aware, pictures[0].image, PROMPTS) == scores_of(toy, pictures[0].image, PROMPTS)
        assert aware.fingerprint != BaselineAwareScore(toy, name, baseline, limit + 1, scatter, second).fingerprint


@pytest.mark.slow
@pytest.mark.usefixtures("_embedded_once", "_passes_once")
def test_who_knows_the_policy_raises_the_lower_score(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    hardened, second = hardened_scores(score), score.with_encoder(load_encoder("blurred:mini-robust", "cpu"))
    aware = DetectorAwareScore(score, shipped(score.encoder), hardened, lower=second)
    both = MinEnsemble([score, second])
    alone = [scores_of(each, small_photos[0], PROMPTS) for each in both.scorers]
    assert scores_of(aware, small_photos[0], PROMPTS) == scores_of(both, small_photos[0], PROMPTS) == min(alone)
    assert aware.fingerprint != DetectorAwareScore(score, shipped(score.encoder), hardened).fingerprint


def test_one_perturbation_raises_the_score_of_all_within_the_budget(
    context: StudyContext, pictures: list[Picture]
) -> None:
    change = universal_change(context, pictures, ARTWORKS, 35.0, 10)
    found = [perturbed(context, picture, change, 35.0) for picture in pictures]
    assert all(picture.figures["psnr"] >= 35.0 for picture in found)
    before, after = (context.scores(each, ARTWORKS) for each in (pictures, found))
    assert (after.mean(axis=1) > before.mean(axis=1)).all()


def test_the_best_crop_is_a_part_that_scores_more(context: StudyContext, small_photos: list[Image.Image]) -> None:
    whole = Picture("a", "a", small_photos[0])
    part = best_crop(context, whole, PROMPTS)
    assert (part.name, part.photo) == ("a", "a")
    assert 0.89 < part.image.width / whole.image.width <= 1
    before, after = context.scores([whole, part], PROMPTS)[:, 0]
    assert after > before
    assert best_crop(context, whole, PROMPTS).digest == part.digest


def test_verdicts_are_those_of_one_rate_of_false_alarms() -> None:
    clean = pd.DataFrame({"attack": "clean", "file": "as it is", "photo": [f"{n}" for n in range(99)], "rise": 0.0})
    clean = clean.assign(least=0.05, p=0.5, promised=0.001, **{SAYS + "a": np.arange(99.0), SAYS + "ours": 0.0})
    fooled = clean[:4].assign(attack="FoCLIP", rise=[0.3, 0.2, 0.1, 0.0], p=[0.001, 0.015, 0.5, 0.001])
    fooled = fooled.assign(**{SAYS + "a": [98.5, 97.5, 3.0, 200.0], "rise of the lower": fooled.rise / 2})
    verdicts = Verdicts(pd.concat([clean, fooled]))
    assert verdicts.names == ["a", "ours"]
    assert (verdicts.threshold("a", 0.01), verdicts.threshold("a", 0.02)) == (98, 97)
    assert list(verdicts.alarms(fooled, "a", 0.01)) == [True, False, False, True]
    assert list(verdicts.alarms(fooled, "ours", 0.01)) == [True, False, False, True]
    assert verdicts.caught(fooled, "a").value == pytest.approx(2 / 3)  # the last one gained nothing
    assert verdicts.undetected(fooled, "ours").value == pytest.approx(0.1 / 4)
    assert verdicts.kept(fooled, "the policy").value == pytest.approx(0.05 / 4)
    assert verdicts.kept(fooled, "the lower score, no detector").value == pytest.approx(0.3 / 4)
    pair = Verdicts(pd.concat([clean, fooled]).rename(columns={SAYS + "a": SAYS + "two encoders"}))
    both = fooled.rename(columns={SAYS + "a": SAYS + "two encoders"})
    assert pair.kept(both, "the lower of two encoders").value == pytest.approx(0.05 / 4)  # half of the third rise
    assert verdicts.area(fooled, "a") == pytest.approx((99 + 98 + 3.5) / 3 / 99)
    few = Verdicts(clean[:9])
    assert few.promised(0.02) == 0.1
    assert not few.alarms(clean[:9], "a").any()
