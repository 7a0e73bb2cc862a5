"""The universal statistic, clean pictures as a reference, and pictures that are each other's."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foclip.calibration.referencing import least, promise
from foclip.detection import Detector, ReferenceDetector, Sensitivity, drift
from foclip.detection.features import UNCROPPING, heading, split_name
from foclip.detection.peers import LEAST, Peers, judge_peers, q_values
from foclip.detection.universal import (
    CLIP,
    HARDENED,
    MIRRORED,
    SURVIVAL,
    Reference,
    Scatter,
    Universal,
    Universals,
    universal,
)
from foclip.errors import UsageError

TAIL = [0.0, 1.7, 2.7, 3.5, 4.3, 5.0]
WEIGHTS = Universal(["heading_webp", "heading_crop", "heading_mirror"], [0.5, 2.0, 0.5], [0.5, 2.0, -1.0], -1, TAIL, 0)
BARE = Universal(["caption_heading_webp", "caption_heading_crop"], [1.0, 1.0], [1.0, 1.0], 0.0, TAIL, 0)


def told(features: np.ndarray, gray: bool = False, prompts: bool = True) -> Sensitivity:
    """A picture with these features of `WEIGHTS`."""
    aligned = dict(zip(("webp", "crop", "mirror"), features.tolist(), strict=True))
    found = Sensitivity(gray, dict.fromkeys(aligned, 0.1), 0.25, 1.0, headings=aligned, caption_headings=aligned)
    return found if prompts else found.without_prompts()


def pictures(rng: np.random.Generator, count: int, fooled: int = 0) -> np.ndarray:
    """Features of clean pictures, the first of which were fooled; scales differ by the feature."""
    found = rng.normal(size=(count, 3)) * (0.1, 0.2, 0.3) + (0.05, 0.0, 0.1)
    found[:fooled, :2] += (1.0, 2.0)
    return found


def reference(rng: np.random.Generator, count: int, **kinds: Any) -> Reference:
    return Reference(WEIGHTS, pictures(rng, count).tolist(), **{"states": [], **kinds})


def detector(rng: np.random.Generator, count: int = 60) -> ReferenceDetector:
    with_prompts = reference(rng, count)
    bare = Reference(BARE, pictures(rng, count)[:, :2].tolist(), [])
    return ReferenceDetector(
        name="d", score="clipscore", model="m", fingerprint="0" * 64, fpr=0.05, with_prompts=with_prompts,
        without_prompts=bare,
    )  # fmt: skip


def test_the_shipped_statistic_can_be_read() -> None:
    found = universal()
    assert set(found.probes) >= {"webp", "crop"}
    assert {split_name(name)[0] for name in found.with_prompts.inputs} == {"heading"}
    assert {split_name(name)[0] for name in found.without_prompts.inputs} == {"caption_heading"}
    for part in (found.with_prompts, found.without_prompts):
        assert np.isfinite([*part.weight, *part.below, *part.tail]).all()
        assert min(part.weight) > 0  # a shift along the text never speaks for a picture


def test_a_heading_is_the_cosine_of_shift_and_text() -> None:
    """Of unit vectors: the cosine of the shift and a text, for shifts that are not noise."""
    text, moved = (torch.nn.functional.normalize(torch.randn(8, generator=torch.manual_seed(n)), dim=0) for n in (0, 1))
    own = torch.nn.functional.normalize(moved + 2 * text, dim=0)
    shift = own - moved
    found = heading(shift @ text, drift(own, moved))
    assert float(found) == pytest.approx(float(shift @ text / shift.norm()), rel=0.02)
    assert float(heading(torch.tensor(1e-4), torch.tensor(1e-8))) < 0.01


def test_p_values_bound_false_alarms_with_few_pictures() -> None:
    """Full conformal prediction: exact for every number of clean pictures, standardisation included."""
    rng = np.random.default_rng(0)
    ps = np.array([reference(rng, 29).ranked(told(pictures(rng, 1)[0])).p_value for _ in range(2500)])
    for alpha in (1 / 30, 0.1, 0.3):
        assert (ps <= alpha + 1e-9).mean() == pytest.approx(alpha, abs=3 * math.sqrt(alpha * (1 - alpha) / 2500))


def test_a_picture_is_ranked_among_each_kind() -> None:
    rng = np.random.default_rng(1)
    odd = pictures(rng, 40) + np.array([0, 6.0, 0])
    suspect = told(np.array([0.05, 3.0, 0.1]))
    alone, states = (
        reference(np.random.default_rng(2), 40),
        reference(np.random.default_rng(2), 40, states=odd.tolist()),
    )
    known = reference(np.random.default_rng(2), 40, background={"odd": odd.tolist()})
    assert alone.ranked(suspect).p_value == pytest.approx(1 / 41)
    assert states.ranked(suspect).p_value > 0.3
    assert known.ranked(suspect).p_value > 0.2
    assert (alone.distinct, states.distinct, known.distinct) == (40, 40, 80)
    assert alone.ranked(suspect).evidence["crop"] > alone.ranked(suspect).evidence["webp"]
    alone.require(0.025)
    with pytest.raises(UsageError, match=r"40 clean pictures cannot promise 0\.02; that takes 49"):
        alone.require(0.02)


def test_features_are_in_units_of_their_own_scatter() -> None:
    rng = np.random.default_rng(3)
    table = 20 * pictures(rng, 400)
    moved = table * (10, 3, 0.5) + (1, 2, 3)
    ours, theirs = (Scatter.of(each).standardise(each) for each in (table, moved))
    assert np.allclose(ours, theirs, atol=0.05)
    assert np.abs(ours).max() <= CLIP
    fooled = np.where(np.arange(400)[:, None] < 80, table + 100, table)
    assert np.allclose(Scatter.of(fooled).spread, Scatter.of(table).spread, rtol=0.6)  # a fifth moves it little
    same = np.ones((20, 1))
    assert Scatter.of(same).standardise(same).tolist() == [[0.0]] * 20


def test_a_feature_has_a_weight_on_each_side_of_its_median() -> None:
    rows = np.array([[1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]])
    assert WEIGHTS.log_odds(rows).tolist() == [0.5, 0.5]  # -1 + 0.5 + 1, and -1 - 0.5 + 2
    assert WEIGHTS.evidence(rows)[1].tolist() == [-0.5, 0.0, 2.0]


def test_a_picture_is_taken_as_it_is_or_as_mirrored_since_but_not_as_both() -> None:
    rows = np.array([[4.0, 2.0, -4.0], [4.0, 3.0, -1.0]])
    # -1 + 4 + 4, of which 4 for 2 + 4; -1 + 2 + 6 - 0.5
    assert WEIGHTS.log_odds(rows).tolist() == pytest.approx([MIRRORED + 3, 6.5])
    assert WEIGHTS.evidence(rows)[0].tolist() == pytest.approx([MIRRORED / 3, 2 * MIRRORED / 3, 4.0])
    assert WEIGHTS.evidence(rows)[1].tolist() == [2.0, 6.0, -0.5]
    assert WEIGHTS.mirror == 2
    assert BARE.mirror is None


def test_a_single_odd_probe_decides_nothing_if_the_largest_part_is_left_out() -> None:
    careful = replace(WEIGHTS, below=[0.5, 2.0, 0.5], left_out=1)
    rows = np.array([[1.0, 0.0, 2.0], [1.0, 9.0, 2.0], [0.0, 8.0, -8.0]])
    assert careful.log_odds(rows).tolist() == [-0.5, 0.5, -5.0]  # without 1, 18 and 16
    assert replace(WEIGHTS, left_out=1).mirror is None  # which would be a single one
    with pytest.raises(UsageError, match="count"):
        replace(careful, left_out=3)


def test_hardened_encoders_give_further_headings() -> None:
    more = WEIGHTS.with_hardened(["strong", "faint"], with_prompts=True)
    assert more.probes == [*WEIGHTS.probes, UNCROPPING, "strong", "faint"]
    assert more.inputs[3:] == [f"heading_{UNCROPPING}", "heading_strong", "heading_faint"]
    usual = np.array([[1.0, -1.0, 2.0]])
    for height, weight in ((2.0, HARDENED[True]), (-2.0, HARDENED[True] / 2)):
        found = more.log_odds(np.hstack([usual, [[0.0, height, 0.0]]]))
        assert found - WEIGHTS.log_odds(usual) == pytest.approx(height * weight)
    cropped = more.log_odds(np.hstack([usual, [[-2.0, 0.0, 0.0]]]))
    assert cropped > WEIGHTS.log_odds(usual)  # undoing the crop brings the attack back
    assert BARE.with_hardened(["strong"], with_prompts=False).inputs == [*BARE.inputs, "caption_heading_strong"]
    for statistic, with_prompts in ((BARE, False), (WEIGHTS, True)):
        assert statistic.with_hardened([], with_prompts) == statistic


def test_the_tail_is_exponential_beyond_what_was_seen() -> None:
    heights = np.array([-9.0, *TAIL, 6.65, 40.0])
    shares = WEIGHTS.survival(heights)
    assert shares[1:-2] == pytest.approx(SURVIVAL)
    assert shares[-2] == pytest.approx(0.01 * 0.05 ** (1 / 2))  # half as far again as from 20 to 1 %
    assert (np.diff(shares) < 0).all()


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    assert q_values(np.array([0.5, 0.01, 0.02, 0.9])) == pytest.approx([2 / 3, 0.04, 0.04, 0.9])
    assert q_values(np.array([1.0, 0.04, 0.03])) == pytest.approx([1.0, 0.06, 0.06])
    assert q_values(np.empty(0)).shape == (0,)


@pytest.mark.parametrize("fooled", [0, 6, 24])
def test_pictures_judge_each_other(fooled: int) -> None:
    rng = np.random.default_rng(4)
    table = pictures(rng, 120, fooled=fooled)
    measured = [told(row) for row in table]
    verdicts = judge_peers(measured, Universals(WEIGHTS, BARE))
    tampered = [verdict.verdict == "tampered" for verdict in verdicts]
    assert all(tampered[:fooled])
    assert sum(tampered[fooled:]) <= 1
    assert {verdict.decided_by for verdict in verdicts} == {"peers"}
    order = rng.permutation(120).tolist()
    again = judge_peers([measured[place] for place in order], Universals(WEIGHTS, BARE))
    assert again == [verdicts[place] for place in order]  # no order matters


def test_who_is_no_reference_for_others() -> None:
    rng = np.random.default_rng(5)
    table = pictures(rng, LEAST + 10)
    measured = [told(row, gray=place < 4, prompts=place >= 8) for place, row in enumerate(table)]
    verdicts = judge_peers(measured, Universals(WEIGHTS, BARE))
    assert [verdict.verdict for verdict in verdicts[:4]] == ["undecidable"] * 4
    assert {verdict.decided_by for verdict in verdicts[4:8]} == {"peers without prompts"}
    assert {verdict.decided_by for verdict in verdicts[8:]} == {"peers"}
    few = judge_peers(measured[: LEAST - 1], Universals(WEIGHTS, BARE))
    assert {verdict.verdict for verdict in few} == {"undecidable"}
    assert Peers.of(WEIGHTS, table).p_values(table).max() <= 1


def test_what_so_many_pictures_can_promise() -> None:
    assert (least(60), least(99), least(5000)) == (0.0164, 0.01, 0.01)
    assert "at most 1.64 % false alarms" in promise(60)
    assert "99 pictures can promise 1%" in promise(60)
    assert "99 pictures" not in promise(200)


def test_a_detector_is_the_same_after_a_file(tmp_path: Path) -> None:
    made = detector(np.random.default_rng(6))
    made.save(tmp_path / "d.json")
    assert Detector.load(tmp_path / "d.json") == made
    picture = told(np.array([0.05, 5.0, 0.1]))
    verdict = made.judge(picture)
    assert (verdict.verdict, verdict.decided_by, verdict.probe) == ("tampered", "combined", "crop")
    assert made.judge(picture.without_prompts()).decided_by == "combined without prompts"
    assert made.judge(replace(told(np.array([0.05, 0.0, 0.1])), gray_already=True)).verdict == "undecidable"
    with pytest.raises(UsageError, match="foclip calibrate --full"):
        made.judge(picture, "rule")
    with pytest.raises(UsageError, match="cannot promise"):
        made.judge(picture, fpr=0.001)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("with_prompts", "statistic", "inputs", 0), "os.system"),
        (("with_prompts", "statistic", "inputs", 0), "heading_nothing"),
        (("with_prompts", "statistic", "inputs", 0), "caption_heading_webp"),
        (("without_prompts", "statistic", "inputs", 0), "heading_webp"),
        (("with_prompts", "statistic", "inputs", 0), "drift_webp"),
        (("with_prompts", "statistic", "weight"), [1.0]),
        (("with_prompts", "statistic", "below"), [1.0]),
        (("with_prompts", "statistic", "weight", 0), float("nan")),
        (("with_prompts", "statistic", "tail"), TAIL[::-1]),
        (("with_prompts", "statistic", "tail"), TAIL[1:]),
        (("with_prompts", "statistic", "left_out"), 3),
        (("with_prompts", "statistic", "left_out"), -1),
        (("with_prompts", "clean"), []),
        (("with_prompts", "clean", 0), [1.0]),
        (("with_prompts", "clean", 0, 0), "1"),
        (("with_prompts", "states"), [[1.0]]),
        (("with_prompts", "background"), {"charts": []}),
        (("with_prompts",), None),
        (("hardened",), ["mini-robust"]),
        (("fpr",), 7),
    ],
)
def test_bad_detector_files(keys: Any, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "detector.json"
    detector(np.random.default_rng(7)).save(path)
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"detector\.json"):
        Detector.load(path)


def test_a_detector_of_an_earlier_statistic_is_refused(tmp_path: Path) -> None:
    """Its headings were others: a silent wrong verdict would come of it."""
    path = tmp_path / "detector.json"
    detector(np.random.default_rng(7)).save(path)
    content = json.loads(path.read_text())
    del content["with_prompts"]["statistic"]["left_out"]
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="'left_out' is missing; make one anew with foclip calibrate"):
        Detector.load(path)
