import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import Checkpoints, Run, scores_of
from PIL import Image
from torch import Tensor

from foclip.api import detect
from foclip.attacks import AttackTask, run
from foclip.calibration import Calibration, calibrate, calibrating, examples
from foclip.calibration.calibrating import _kinds
from foclip.calibration.fitting import make_detector
from foclip.data.images import read, to_gray, to_image, to_tensor, write
from foclip.data.prompts import ARTWORKS
from foclip.demo import photos
from foclip.detection import (
    TRANSFORMATIONS,
    Detector,
    FullDetector,
    Method,
    Sensitivity,
    TwoThresholds,
    View,
    conformal_threshold,
    drift,
    drop,
    hardened_of,
    hardened_scores,
    measure,
    p_value,
    sweep,
)
from foclip.detection.conformal import unlike
from foclip.detection.detector import shipped
from foclip.detection.features import feature_values
from foclip.detection.rule import DriftThreshold, in_gray
from foclip.detection.scenarios import AFTERWARDS, CONDITIONS, attack_scenarios
from foclip.errors import UsageError
from foclip.models import Encoder, embedded, load_encoder
from foclip.models.scores import CLIPScore
from foclip.models.scores.clip_iqa import CLIPIQA
from foclip.reports import calibration as report

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

#: Options of the module's calibration.
CALIBRATED: dict[str, Any] = {"steps": 12, "fpr": 0.1, "fooled": 24, "name": "small"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """20 crops of real photos."""
    folder = tmp_path_factory.mktemp("clean")
    files = []
    for source in photos():
        picture = read(source)
        for i in range(5):
            left, top = (picture.width - 120) * i // 4, (picture.height - 110) * (i * 3 % 5) // 4
            files.append(folder / f"{source.stem}-{i}.png")
            write(picture.crop((left, top, left + 120, top + 110)), files[-1])
    return files


@pytest.fixture(scope="module")
def calibration(score: CLIPScore, clean: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    work = tmp_path_factory.mktemp("fooled")
    with pytest.MonkeyPatch.context() as patch:  # `test_commands_calibrate_and_detect` measures all conditions
        patch.setattr(examples, "CONDITIONS", {name: CONDITIONS[name] for name in ("JPEG 20", "mirrored")})
        return calibrate(clean, "artworks", work, model=score, **CALIBRATED)


def sensitivity(drop_: float | None, drift_: float, gray_already: bool = False) -> Sensitivity:
    drops = {} if drop_ is None else {"gray": drop_}
    return Sensitivity(gray_already, {"gray": drift_}, 0.25, None if drop_ is None else 1.0, drops=drops)


def test_drop_is_the_papers_ratio_where_the_score_matters() -> None:
    def lost(before: float, after: float, floor: float = 0.25) -> float:
        return float(drop(torch.tensor(before), torch.tensor(after), floor))

    assert lost(0.8, 0.2) == pytest.approx(0.75)
    assert lost(0.01, 0.0) == pytest.approx(0.04)  # steady near zero
    assert lost(0.01, 0.0, 0.1) == pytest.approx(0.1)  # what is near zero is the score's affair
    assert lost(0.0, 0.0) == 0
    assert lost(0.2, 0.8) == pytest.approx(-0.75)
    scores = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 2.5
    assert drop(scores[:, 0], scores[:, 1], 0.25).abs().max() <= 1


def test_drift() -> None:
    vectors = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    a, b = torch.nn.functional.normalize(vectors, dim=-1)
    expected = 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1)
    assert torch.allclose(drift(a, b), expected, atol=1e-6)
    assert drift(a, a).max() < 1e-6


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations_keep_size_and_mode(name: str, small_photos: list[Image.Image]) -> None:
    for picture in (Image.new("RGB", (1, 1), (9, 200, 30)), small_photos[0]):
        changed = TRANSFORMATIONS[name].exact(picture)
        assert (changed.size, changed.mode) == (picture.size, "RGB")
    assert not np.array_equal(np.asarray(changed), np.asarray(small_photos[0]))


def test_a_channel_as_luma_leaves_the_others(small_photos: list[Image.Image]) -> None:
    picture = small_photos[1]
    original, changed = (np.asarray(p) for p in (picture, TRANSFORMATIONS["green"].exact(picture)))
    assert np.array_equal(changed[..., 0], original[..., 0])
    assert np.array_equal(changed[..., 2], original[..., 2])
    assert np.array_equal(changed[..., 1], np.asarray(picture.convert("L")))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_view_is_exact_forward_and_has_a_gradient(name: str, mini: Encoder, small_photos: list[Image.Image]) -> None:
    view = View(name, mini.preprocess)
    assert repr(view) == f"View(transformation={name!r})"
    for picture in small_photos[:2]:
        resized = to_image((mini.preprocess.pixels(to_tensor(picture)[None] / 255)[0] * 255).round().to(torch.uint8))
        pixels = (to_tensor(picture)[None] / 255).requires_grad_(True)
        seen = view(pixels)
        expected = to_tensor(TRANSFORMATIONS[name].exact(resized))
        assert torch.equal((seen.detach()[0] * 255).round().to(torch.uint8), expected)
        (gradient,) = torch.autograd.grad(seen.sum(), pixels)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", [name for name, change in TRANSFORMATIONS.items() if change.surrogate])
def test_a_surrogate_is_close_to_what_it_stands_for(name: str, small_photos: list[Image.Image]) -> None:
    change = TRANSFORMATIONS[name]
    assert change.surrogate is not None
    for picture in small_photos:
        smooth = change.surrogate(to_tensor(picture)[None] / 255)[0] * 255
        assert (smooth - to_tensor(change.exact(picture))).abs().mean() < 1


def test_measured_is_what_scoring_the_pictures_gives(
    mini: Encoder, score: CLIPScore, small_photos: list[Image.Image]
) -> None:
    prompts = ARTWORKS[:3]
    found = measure(score, small_photos, [prompts] * 4, ("gray", "jpeg"))
    for picture, s in zip(small_photos, found, strict=True):
        assert s.score == pytest.approx(np.mean(scores_of(score, picture, prompts)), abs=1e-5)
        assert s.scores["gray"] == pytest.approx(np.mean(scores_of(score, to_gray(picture), prompts)), abs=2e-3)
        vectors = mini.encode_pictures(
            [picture, TRANSFORMATIONS["jpeg"].exact(to_image(mini.preprocess.image(picture)))]
        )
        assert s.drifts["jpeg"] == pytest.approx(1 - float(vectors[0] @ vectors[1]), abs=1e-5)


def test_another_score_has_drops_of_its_own(mini: Encoder, small_photos: list[Image.Image]) -> None:
    iqa = CLIPIQA(mini)
    for picture, s in zip(small_photos, measure(iqa, small_photos, [("photo.",)] * 4), strict=True):
        before, after = (scores_of(iqa, p, ("photo.",))[0] for p in (picture, to_gray(picture)))
        assert s.score == pytest.approx(before, abs=1e-4)
        assert s.drops["gray"] == pytest.approx((before - after) / max(before, after, 0.1), abs=0.1)


@pytest.mark.slow
def test_batch_mates_do_not_matter(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    prompts = [ARTWORKS, ARTWORKS[:1], (), ARTWORKS[3:]]
    together = measure(score, small_photos, prompts, list(TRANSFORMATIONS))
    assert together[::-1] == measure(score, small_photos[::-1], prompts[::-1], list(TRANSFORMATIONS))
    for i in range(4):
        assert [together[i]] == measure(score, small_photos[i : i + 1], prompts[i : i + 1], list(TRANSFORMATIONS))
    assert (together[2].score, together[2].scores, together[2].drops) == (None, {}, {})
    assert measure(score, [], []) == []


def test_gray_pictures_are_noticed(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    colour, gray = measure(score, [small_photos[0], to_gray(small_photos[0])], [(), ()])
    assert not colour.gray_already
    assert gray.gray_already
    assert gray.drifts["gray"] < 1e-6


def test_the_rule_asks_for_both() -> None:
    rule = TwoThresholds(0.3, 0.1)
    for drop_, drift_, tampered in ((0.6, 0.3, True), (0.6, 0.05, False), (0.1, 0.3, False)):
        assert (rule.value(sensitivity(drop_, drift_)) >= 1) is tampered
        assert (rule.ratio(drop_, drift_) >= 1) is tampered
    assert DriftThreshold(rule.tau2).value(sensitivity(None, 0.3)) == pytest.approx(3)  # without prompts
    for tau1, tau2 in ((0, 0.1), (0.1, -1), (math.nan, 0.1)):
        with pytest.raises(UsageError, match="tau"):
            TwoThresholds(tau1, tau2)
    with pytest.raises(UsageError, match="tau2"):
        DriftThreshold(0)


def test_the_sweep_is_the_rules_accuracy() -> None:
    rng = np.random.default_rng(0)
    clean_ = [sensitivity(*rng.normal((0.1, 0.1), 0.1)) for _ in range(40)]
    fooled = [sensitivity(*rng.normal((0.5, 0.3), 0.1)) for _ in range(60)]
    surface = sweep(in_gray(clean_), in_gray(fooled))
    assert surface.accuracy.shape == (len(surface.tau1), len(surface.tau2))
    for i, j in ((5, 3), (20, 10), (48, 48)):
        rule = TwoThresholds(float(surface.tau1[i]), float(surface.tau2[j]))
        caught = np.mean([rule.value(s) >= 1 for s in fooled])
        alarms = np.mean([rule.value(s) >= 1 for s in clean_])
        assert surface.accuracy[i, j] == pytest.approx((caught + 1 - alarms) / 2)
    best = surface.best()
    row, column = np.searchsorted(surface.tau1, best.tau1), np.searchsorted(surface.tau2, best.tau2)
    assert surface.accuracy[row, column] == surface.accuracy.max() > 0.9


def test_p_values_bound_false_alarms() -> None:
    assert p_value(5, [1, 2, 3]) == 0.25
    assert p_value(3, [1, 2, 3]) == 0.5  # a tie counts
    rng = np.random.default_rng(1)
    # The guarantee is over calibration and test together; 4,000 draws put the mean within 3 standard errors.
    ps = np.array([p_value(rng.normal(), sorted(rng.normal(size=39))) for _ in range(4000)])
    for alpha in (0.025, 0.05, 0.2):
        assert (ps <= alpha).mean() == pytest.approx(alpha, abs=3 * math.sqrt(alpha * (1 - alpha) / 4000))


@pytest.mark.parametrize(("n", "fpr"), [(99, 0.01), (19, 0.05), (200, 0.05), (1000, 0.013)])
def test_threshold_and_p_value_agree(n: int, fpr: float) -> None:
    values = sorted(np.random.default_rng(n).normal(size=n).tolist())
    threshold = conformal_threshold(values, fpr)
    assert p_value(math.nextafter(threshold, math.inf), values) <= fpr < p_value(threshold, values)


def test_a_promise_needs_enough_pictures() -> None:
    assert conformal_threshold([0.0] * 99, 0.01) == 0
    with pytest.raises(UsageError, match="that takes 99"):
        conformal_threshold([0.0] * 98, 0.01)
    for fpr in (0.0, 1.0, -0.1):
        with pytest.raises(UsageError, match="fpr"):
            conformal_threshold([0.0] * 98, fpr)


def test_pictures_of_another_kind_are_noticed() -> None:
    rng = np.random.default_rng(0)
    assert sum(unlike(rng.uniform(size=60).tolist()) is not None for _ in range(300)) <= 1
    some = [*rng.uniform(size=90), *[0.001] * 10]  # a tenth was fooled
    assert unlike(some) is None
    note = unlike((rng.uniform(size=60) ** 3).tolist())
    assert note is not None
    assert "of 60 have p ≤ 0.5" in note
    assert unlike([0.01] * 19) is None  # too few to tell


@pytest.mark.slow
def test_calibration_tells_fooled_from_clean(calibration: Calibration, mini: Encoder) -> None:
    detector = calibration.detector
    assert detector.fingerprint == mini.fingerprint
    assert detector.combined.auc > 0.9
    assert detector.no_prompt.auc > 0.9
    assert detector.provenance["clean"] == 20
    assert detector.provenance["fooled"] == 24
    held_out = [e for e in calibration.examples if e.held_out and e.counts and not e.fooled]
    assert len(detector.combined.clean) == len(held_out) == 10
    for example in held_out:  # the p-values are those pictures' own
        assert detector.combined.statistic.value(example.sensitivity) in detector.combined.clean
    means = [
        np.mean([e.sensitivity.absolute_drops["webp"] for e in calibration.examples if e.fooled == fooled])
        for fooled in (False, True)
    ]
    assert means[1] > means[0] + 0.25
    for row in report.summary(calibration):
        assert row["false_alarms"] <= 0.1 or row["method"].startswith("paper")


@pytest.mark.slow
def test_verdicts(calibration: Calibration) -> None:
    detector = calibration.detector
    for example in calibration.examples:
        for method in get_args(Method):
            verdict = detector.judge(example.sensitivity, method)
            assert verdict.verdict in ("tampered", "clean")
            assert verdict.p_value is not None
            if method == "combined":
                assert (verdict.verdict == "tampered") == (verdict.p_value <= detector.fpr)
    gray = replace(calibration.examples[0].sensitivity, gray_already=True)
    for method in get_args(Method):
        assert detector.judge(gray, method).verdict == "undecidable"
        assert detector.judge(gray, method).p_value is None
    caught = next(e for e in calibration.examples if detector.judge(e.sensitivity).verdict == "tampered")
    without_colour = replace(caught.sensitivity, gray_already=True)  # the probes that are not gray's still tell
    assert detector.judge(without_colour).verdict == "tampered"
    assert detector.judge(without_colour, "rule").verdict == "undecidable"
    with pytest.raises(UsageError, match="cannot promise"):
        detector.judge(calibration.examples[0].sensitivity, fpr=0.001)


@pytest.mark.slow
def test_a_detector_is_the_same_after_a_file(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "detector.json"
    calibration.detector.save(path)
    assert Detector.load(path) == calibration.detector


@pytest.mark.slow
def test_a_file_of_before_cascades_had_headings_is_read(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "detector.json"
    calibration.detector.save(path)
    path.write_text(path.read_text().replace('"heading_', '"relative_drop_').replace('"caption_heading_', '"drift_'))
    former = Detector.load(path)
    assert isinstance(former, FullDetector)
    measured = calibration.examples[0].sensitivity
    last = former.combined.statistic.steps[-1]
    values = dict(zip(last.inputs, feature_values(measured, last.inputs), strict=True))
    assert {name: values[f"relative_drop_{name}"] for name in last.probes} == {
        n: measured.drops[n] for n in last.probes
    }
    for known in (measured, measured.without_prompts()):
        assert former.judge(known).p_value is not None


def change(path: Path, *keys: Any, value: Any) -> None:
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("format",), 99),
        (("fpr",), 7),
        (("rule", "statistic", "tau1"), -0.5),
        (("rule", "statistic", "tau2"), "0.1"),
        (("combined", "statistic", "steps", 0, "weight"), [1.0]),
        (("combined", "statistic", "steps", 0, "scale", 0), 0),
        (("combined", "statistic", "steps", 0, "inputs", 0), "os.system"),
        (("combined", "statistic", "steps", 0, "inputs", 0), "drift_shift"),
        (("combined", "statistic", "steps", 0, "inputs", 0), "drift_nothing"),
        (("combined", "statistic", "steps", 0, "inputs", 0), "caption_drop_mini-robust"),
        (("combined", "statistic", "steps", 0, "intercept"), True),
        (("combined", "statistic", "steps", 0, "note"), "more"),
        (("combined", "statistic", "steps", 0, "intercept"), float("nan")),
        (("combined", "statistic", "steps"), []),
        (("combined", "statistic", "exit_thresholds"), [0.0]),
        (("combined", "statistic", "skip_below"), "1"),
        (("no_prompt", "statistic", "steps", 0, "inputs", 0), "relative_drop_mini-robust"),
        (("no_prompt", "statistic", "steps", 0, "inputs", 0), "caption_heading_mini-robust"),
        (("hardened",), None),
        (("hardened",), {}),
        (("hardened",), ["mini-robust"]),
        (("hardened", "mini-robust"), 7),
        (("combined", "clean"), [3, 1, 2]),
        (("combined", "clean"), []),
        (("combined", "states"), [3, 1, 2]),
        (("combined", "background"), {"pages": [2, 1]}),
        (("combined", "background"), {"pages": []}),
        (("combined", "background"), [1]),
        (("combined", "auc"), 1.5),
        (("combined", "roc"), []),
        (("combined", "roc"), [[0.0, 0.0], [1.0]]),
        (("combined", "roc", 0), [0, 2]),
        (("no_prompt",), None),
        (("rule", "clean", 0), 1e300),
        (("provenance",), 3),
    ],
)
def test_bad_detector_files(keys: Any, value: Any, calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "detector.json"
    calibration.detector.save(path)
    change(path, *keys, value=value)
    with pytest.raises(UsageError, match=r"detector\.json"):
        Detector.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "[]", "null", "\x00", "half"])
def test_cut_off_detectors(content: str, calibration: Calibration, clean: list[Path], tmp_path: Path, run: Run) -> None:
    path = tmp_path / "detector.json"
    calibration.detector.save(path)
    path.write_text(path.read_text()[:100] if content == "half" else content)
    with pytest.raises(UsageError, match=r"detector\.json") as caught:
        detect(clean[0], detector=path)
    assert "\n" not in str(caught.value)
    code, _, errors = run("detect", clean[0], "--detector", path)
    assert code == 2
    assert str(path) in errors.replace("\n", "")


@pytest.mark.slow
def test_foreign_and_missing_detectors(calibration: Calibration, mini: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "detector.json"
    calibration.detector.save(path)
    change(path, "fingerprint", value="0" * 64)
    with pytest.raises(UsageError, match="was calibrated on"):
        Detector.load(path).check(mini)
    with pytest.raises(UsageError, match="No such file"):
        Detector.load(tmp_path / "none.json")


@pytest.mark.slow
def test_what_cannot_be_promised_is_refused_before_anything_is_read(
    calibration: Calibration, mini: Encoder, clean: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Tensor:
        raise AssertionError("measured")

    monkeypatch.setattr(mini, "embed", fail)
    foreign = replace(calibration.detector, fingerprint="0" * 64)
    for options, message in (
        ({"fpr": 0.001}, "cannot promise"),
        ({"fpr": 1.5}, r"not in \(0, 1\)"),
        ({"method": "x"}, "^method: 'x' is none of combined, rule$"),
        ({"detector": foreign}, "was calibrated on"),
    ):
        arguments: dict[str, Any] = {"detector": calibration.detector} | options
        with pytest.raises(UsageError, match=message):
            detect(clean[0], "artworks", model=mini, **arguments)
    with pytest.raises(UsageError, match="method: 'x' is none of combined, rule"):
        calibration.detector.judge(calibration.examples[0].sensitivity, "x")  # type: ignore[arg-type]


@pytest.mark.slow
def test_another_score_is_judged_without_prompts(
    calibration: Calibration, mini: Encoder, score: CLIPScore, clean: list[Path]
) -> None:
    """A detector has seen the drops of one score; those of another mean nothing to it."""
    detector = calibration.detector
    own, bare = (detect(clean[:3], p, model=score, detector=detector).results for p in ("artworks", None))
    other = detect(clean[:3], ["photo."], model=CLIPIQA(mini), detector=detector).results
    for with_prompts, without, iqa in zip(own, bare, other, strict=True):
        assert with_prompts.decided_by == "combined"
        assert without.decided_by == iqa.decided_by == "combined without prompts"
        assert without.p_value == iqa.p_value
        assert (without.score, without.prompts) == (None, [])
        assert iqa.score is not None  # measured and shown all the same
        assert iqa.drop is not None
    by_rule = detect(clean[:3], ["photo."], model=CLIPIQA(mini), detector=detector, method="rule").results
    assert [r.decided_by for r in by_rule] == ["rule without prompts"] * 3
    assert [r.tampered for r in by_rule] == [
        r.tampered for r in detect(clean[:3], model=score, detector=detector, method="rule")
    ]


@pytest.mark.slow
def test_a_picture_takes_the_probes_that_are_due(
    calibration: Calibration, score: CLIPScore, clean: list[Path], tmp_path: Path
) -> None:
    """A fooled picture is looked at until there is no doubt left; one that scores nothing is not looked at."""
    detector = calibration.detector
    fooled = next(e for e in calibration.examples if e.fooled and e.counts and e.scenario.startswith("own caption, 35"))
    prompts = list(fooled.prompts)
    (caught,) = detect(fooled.path, prompts, model=score, detector=detector)
    assert caught.tampered
    assert caught.probes[0] == embedded.HARDENED["mini"][0]
    assert caught.probe in caught.probes
    assert caught.drop is not None
    (nothing,) = detect(clean[0], ["zzz"], model=score, detector=skipping_below(detector, 99.0))
    assert (nothing.verdict, nothing.probes, nothing.probe, nothing.drift) == ("clean", [], None, None)
    (bare,) = detect(fooled.path, model=score, detector=detector)
    assert bare.zero_shot_caption
    assert (bare.score, bare.drop, bare.prompts) == (None, None, [])


def skipping_below(detector: FullDetector, score: float) -> FullDetector:
    cascade = replace(detector.combined.statistic, skip_below=score)
    return replace(detector, combined=replace(detector.combined, statistic=cascade))


@pytest.mark.slow
def test_verdicts_do_not_depend_on_the_company(calibration: Calibration, score: CLIPScore, clean: list[Path]) -> None:
    """Looks are taken by different pictures at different times, and every pass has a fixed number of rows."""
    fooled = [e.path for e in calibration.examples if e.fooled and e.state == "as it is"][:6]
    pictures = [*clean[:6], *fooled]
    together = detect(pictures, "artworks", model=score, detector=calibration.detector).results
    for picture, found in zip(pictures, together, strict=True):
        assert detect(picture, "artworks", model=score, detector=calibration.detector).results == [found]


@pytest.mark.slow
def test_the_order_of_a_cascade_is_a_statistic(calibration: Calibration) -> None:
    """Every probe more lifts a picture above all that did not need it, so p-values bound the alarms of the whole."""
    part = calibration.detector.combined
    seen = [(part.statistic.taken(e.sensitivity), part.statistic.value(e.sensitivity)) for e in calibration.examples]
    for taken, value in seen:
        for other, lower in seen:
            assert taken <= other or value > lower


@pytest.mark.slow
def test_a_detector_of_a_foreign_hardened_encoder_loads_nothing(
    calibration: Calibration, score: CLIPScore, mini: Encoder
) -> None:
    foreign = replace(calibration.detector, hardened={"hf-hub:somebody/something": "0" * 64})
    with pytest.raises(UsageError, match=r"needs the hardened encoder 'hf-hub:somebody/something' \(weights 0+…\)"):
        hardened_of(foreign, score)
    with pytest.raises(UsageError, match="give it, and not mini "):
        hardened_of(foreign, score, [mini])
    # Weights tell, names may change.
    renamed = replace(foreign, hardened={"hf-hub:somebody/something": mini.fingerprint})
    assert hardened_of(renamed, score, [mini])["hf-hub:somebody/something"].encoder is mini
    with pytest.raises(UsageError, match="and not mini-robust "):
        hardened_of(replace(foreign, hardened={"mini-robust": "0" * 64}), score)
    assert hardened_of(replace(foreign, hardened={}), score) == {}
    assert list(hardened_scores(score)) == list(embedded.HARDENED["mini"])
    assert list(hardened_scores(CLIPScore(load_encoder("mini-robust")))) == []


def test_scenarios_reach_what_they_are_named_for(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    found = {scenario.name: scenario for scenario in attack_scenarios(steps=4)}
    assert len(found) >= 15
    partial = found["own caption, 40 dB, up by 0.8"].attack
    task = AttackTask(to_tensor(small_photos[0]), ("a photo of a cat.",))
    (result,) = run([task], score, partial.replace(steps=60))
    assert result.stopped_by == "target"
    assert result.scores[0] + 0.2 <= result.scores[-1] <= result.scores[0] + 0.5
    for change in (*AFTERWARDS.values(), *CONDITIONS.values()):
        assert change(small_photos[0]).mode == "RGB"


@pytest.mark.slow
def test_attacks_that_gain_nothing_teach_nothing(calibration: Calibration, score: CLIPScore) -> None:
    examples = [replace(e, rise=0.0) for e in calibration.examples]
    with pytest.raises(UsageError, match="fooled: too few of the 48 fooled pictures gained anything"):
        make_detector(examples, score, 0.1, "none", calibration.detector.probes, hardened_scores(score))


@pytest.mark.slow
def test_calibrated_again_nothing_is_fooled_again(
    toys: None, clean: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder("toy-clip:3")

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}

    first = calibrate(clean, "artworks", tmp_path, model=encoder, **CALIBRATED)
    before = written()
    assert len(before) == 24
    monkeypatch.setattr("foclip.runs.fooling.run", lambda tasks, *_, **__: iter(list(tasks)))  # a task would break
    again = calibrate(clean, "artworks", tmp_path, model=encoder, **CALIBRATED)
    assert again.detector == first.detector
    assert written() == before


@pytest.mark.slow
def test_commands_calibrate_and_detect(run: Run, toys: None, clean: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    model = ("--model", "toy-clip:3")
    options = (*model, "--fpr", 0.1, "--fooled", 16, "--steps", 15, "--out", out, "--json")
    code, text, errors = run("calibrate", "--clean", clean[0].parent, *options)
    assert code == 0, errors
    assert [row["clean"] for row in json.loads(text)["methods"]] == [10] * 4
    html = out.with_suffix(".html").read_text()
    assert html.count("<svg") == 3
    for words in ("own caption, 40 dB", "saved again", "48-pixel thumbnail", "alert budget"):
        assert words in html
    fooled = sorted((tmp_path / "mine-fooled").glob("*.png"))
    assert len(fooled) == 16
    gray = tmp_path / "gray.png"
    write(to_gray(read(clean[0])), gray)
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    pictures = (fooled[0], gray, broken, clean[1])
    for prompts in ((), ("--prompts", "artworks")):
        code, text, errors = run("detect", *pictures, *prompts, *model, "--detector", out, "--json")
        assert code == 1
        assert "broken.png" in errors
        *rows, failed = json.loads(text)
        assert failed.keys() == {"image", "error"}
        assert failed["image"] == str(broken)
        assert [Path(row["image"]).name for row in rows] == [fooled[0].name, "gray.png", clean[1].name]
        assert rows[1]["verdict"] == "undecidable"
        assert not rows[1]["tampered"]
        assert rows[1]["p_value"] is None
        assert all(row["drop"] is None for row in rows) or prompts
        assert all((row["zero_shot_caption"] is None) == bool(prompts) for row in rows)
        assert set(rows[0]) >= {"image", "tampered", "score", "gray_score", "drop", "drift", "p_value", "detector"}
    code, text, _ = run("detect", *pictures, *model, "--detector", out, "--method", "rule")
    assert code == 1
    assert "undecidable" in text


@pytest.mark.slow
def test_what_to_expect_of_one_calibration(calibration: Calibration) -> None:
    """The rate of one calibration is Beta-distributed: drawn anew, 95 of 100 lie in its interval."""
    part, fpr = calibration.detector.combined, calibration.detector.fpr
    low, high = report.expected_rate(part, fpr)
    assert 0 <= low < fpr < high < 1
    rng, count = np.random.default_rng(0), len(part.clean)
    k = int(fpr * (count + 1) + 1e-9)
    rates = [1 - np.sort(rng.random(count))[-k] for _ in range(1000)]  # of uniform statistics above the threshold
    assert np.mean([low <= rate <= high for rate in rates]) == pytest.approx(0.95, abs=0.03)
    rows = {row["method"]: row for row in report.summary(calibration)}
    assert [row["expected_false_alarms"] is None for row in rows.values()] == [True, False, False, False]
    for row in rows.values():
        assert row["false_alarms_interval"][0] <= row["false_alarms"] <= row["false_alarms_interval"][1]
        assert row["caught_interval"][0] <= row["caught"] <= row["caught_interval"][1]


@pytest.mark.slow
@pytest.mark.parametrize("fpr", [0.002, 0.01, 0.05, 0.3])
def test_the_bound_holds_for_every_kind_of_clean_pictures(fpr: float, calibration: Calibration) -> None:
    rng = np.random.default_rng(0)
    kinds = {name: sorted(rng.normal(mean, 1, 150).tolist()) for name, mean in (("a", 0.0), ("b", 0.5), ("c", -9.0))}
    part = replace(calibration.detector.combined, clean=kinds.pop("a"), states={"c": kinds.pop("c")}, background=kinds)
    assert part.distinct == 300
    if fpr * (part.distinct + 1) < 1:
        with pytest.raises(UsageError, match="cannot promise"):
            part.threshold(fpr)
        return
    threshold = part.threshold(fpr)
    for value in [*np.linspace(-4, 5, 200), *part.clean, *part.background["b"]]:
        assert (part.p_value(value) <= fpr) == (value > threshold)
    for kind in part.kinds:  # rank by rank, as if each picture were the next one
        assert sum(value > threshold for value in kind) <= max(fpr * (len(kind) + 1), 1) - 1 + 1e-9


def test_kinds_of_the_background_are_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a/pages", "b/pages", "charts"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "charts")
    found = _kinds([tmp_path / "a/pages/1.png", Path("2.png"), tmp_path / "b/pages/1.png", tmp_path / "a/pages/2.png"])
    assert list(found.values()) == ["pages", "charts", "pages 2", "pages"]


def test_wrong_calls_of_calibrate(run: Run, clean: list[Path], tmp_path: Path) -> None:
    for options, words in (
        (("--clean", clean[0]), "clean: too few pictures (1), give at least 20 in colour"),
        (("--clean", clean[0].parent, "--fpr", "0.001"), "cannot promise"),
        (("--clean", clean[0].parent, "--fpr", "2"), "not in"),
    ):
        code, out, errors = run("calibrate", *options, "--out", tmp_path / "d.json")
        assert (code, out) == (2, "")
        assert words in errors
    assert run("calibrate", "--clean", clean[0].parent, "--out", tmp_path / "d.txt")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_calibrate_counts_before_it_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, score: CLIPScore) -> None:
    """150 pictures cannot promise 1 %; the rate that is offered instead is one that they can promise."""
    paths = [tmp_path / f"{number}.png" for number in range(150)]
    for path in paths:
        path.touch()
    monkeypatch.setattr(calibrating, "_distinct", lambda *_: pytest.fail("pictures were read"))
    with pytest.raises(UsageError, match=r"150 clean .* that takes 198\. They can promise 0\.0132: give that"):
        calibrate(paths, ["a cat"], tmp_path / "work", model=score)
    for pictures in range(20, 2000, 7):
        with pytest.raises(UsageError) as caught:
            calibrating.check_enough(pictures, 1e-4)
        offered = float(str(caught.value).partition("promise 0.0001; ")[2].partition("promise ")[2].partition(":")[0])
        calibrating.check_enough(pictures, offered)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*embedded.names()} - {*embedded.ORIGINALS}))
def test_a_detector_comes_with_every_embedded_encoder(name: str, small_photos: list[Image.Image]) -> None:
    encoder = load_encoder(name)
    detector = shipped(encoder)
    detector.check(encoder)
    assert len(detector.combined.clean) >= 99  # enough for the default fpr of 1 %
    assert tuple(detector.hardened) == embedded.HARDENED.get(name, ())
    for prompts in (ARTWORKS, None):
        assert [d.verdict for d in detect(small_photos, prompts, model=encoder)] == ["clean"] * 4


@pytest.mark.parametrize("name", ["toy", "toy-taste"])
def test_a_score_without_embedding_is_refused_in_one_line(name: str, toys: None, clean: list[Path]) -> None:
    for call in (partial(detect, clean[0], ["a cat"]), partial(calibrate, clean, ["a cat"])):
        with pytest.raises(UsageError, match=f"score: {name} has no embedding, .* such as clipscore$"):
            call(score=name)


@pytest.mark.slow
def test_other_encoders_need_their_own_detector(checkpoints: Checkpoints) -> None:
    name = f"small-RN/{checkpoints['small-RN']}"
    with pytest.raises(UsageError, match=r"foclip calibrate --model small-RN"):
        shipped(load_encoder(name))
