import copy
import dataclasses
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from calling import executed
from conftest import Made, Run, scores_of
from PIL import Image
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.wrappers import (
    BootStrapper,
    LambdaInputTransformer,
    MetricTracker,
    MinMaxMetric,
    MultitaskWrapper,
    Running,
)

import foclip
from foclip.attacks import AttackTask, FoCLIP, make_plan, objective, run
from foclip.core.detecting import BatchDetector
from foclip.data.images import to_image, to_tensor
from foclip.data.prompts import imagenet
from foclip.detection import Detector, measure
from foclip.detection.detector import SHIPPED, hardened_scores, shipped
from foclip.errors import PromptTruncationWarning, UsageError
from foclip.metrics import CLIPScore, MeanScore, RobustCLIPScore, clip_score, pairwise_clip_score, robust_clip_score
from foclip.models import Encoder, OpenClipEncoder, load, load_encoder
from foclip.models.scores import CLIPScore as Score

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

CAPTIONS = ["a photo of an astronaut.", "a photo of a cat.", "a photo of a cup.", "a photo of a rocket."]


@pytest.fixture(scope="module")
def detector(mini: Encoder) -> Detector:
    return shipped(mini)


def test_clip_score_is_the_mean_of_scores(mini: Encoder, score: Score, small_photos: list[Image.Image]) -> None:
    expected = np.mean([scores_of(score, p, (caption,))[0] for p, caption in zip(small_photos, CAPTIONS, strict=True)])
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
    for wrong, error, message in (
        (bytes_[:, :1], UsageError, r"not \(3, H, W\)"),
        (bytes_[0], UsageError, r"pictures: .* is not \(B, 3, H, W\)"),
        (bytes_.int(), UsageError, "neither uint8 nor"),
        (bytes_.float(), UsageError, r"must lie in \[0, 1\]"),  # 0 to 255
        (torch.where(bytes_ > 250, math.nan, bytes_ / 255), UsageError, r"must lie in \[0, 1\]"),
    ):
        with pytest.raises(error, match=message):
            clip_score(wrong, CAPTIONS, mini)
    wrong_captions: tuple[Any, ...] = (CAPTIONS[:2], "four", [[caption] for caption in CAPTIONS], [None] * 4)
    for captions in wrong_captions:
        with pytest.raises(UsageError, match="captions"):
            clip_score(squares, captions, mini)


def test_pictures_in_any_form_have_one_figure(mini: Encoder, squares: torch.Tensor, tmp_path: Path) -> None:
    pixels, captions = squares[:, :, :70], CAPTIONS[:2]
    pictures = [to_image(picture) for picture in pixels]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    once = alone(CLIPScore(mini), (pixels, captions))
    forms: dict[str, Any] = {
        "files": [tmp_path / "0.png", str(tmp_path / "1.png")],
        "PIL": pictures,
        "tensors": list(pixels),
        "half": (pixels / 255).half(),
        "array": pixels.numpy(),
        "float array": pixels.numpy() / 255,
        "channels last": np.stack([np.asarray(picture) for picture in pictures]),
        "arrays": [np.asarray(picture) for picture in pictures],
    }
    for name, form in forms.items():
        assert alone(CLIPScore(mini), (form, captions)) == once, name
    assert np.asarray(pictures[0]).shape == (70, 80, 3)


def test_one_picture_and_one_caption_need_no_list(mini: Encoder, squares: torch.Tensor, tmp_path: Path) -> None:
    picture, caption = to_image(squares[0]), CAPTIONS[0]
    picture.save(tmp_path / "a.png")
    once = float(clip_score([picture], [caption], mini))
    given: tuple[Any, ...] = (picture, squares[0], squares[:1], np.asarray(picture), tmp_path / "a.png")
    for one in (*given, str(tmp_path / "a.png")):
        assert float(clip_score(one, caption, mini)) == once
        assert float(CLIPScore(mini)(one, caption)) == once
    with pytest.raises(UsageError, match="captions: give one for each of the 1 pictures"):
        clip_score(picture, CAPTIONS, mini)


def test_captions_as_pyiqa_calls_them(mini: Encoder, squares: torch.Tensor) -> None:
    once = alone(CLIPScore(mini), (squares, CAPTIONS[:2]))
    assert float(CLIPScore(mini)(squares, caption_list=CAPTIONS[:2])) == once
    collection = MetricCollection({"own": CLIPScore(mini), "other": CLIPScore(mini, scale=1)})
    found = collection(squares, caption_list=CAPTIONS[:2])
    assert float(found["own"]) == once == pytest.approx(2.5 * float(found["other"]))
    for more in ({}, {"captions": CAPTIONS[:2], "caption_list": CAPTIONS[:2]}):
        with pytest.raises(UsageError, match="captions: give one"):
            CLIPScore(mini).update(squares, **more)


def test_a_prefix_comes_before_each_caption(mini: Encoder, squares: torch.Tensor) -> None:
    depicted = [f"A photo depicts {caption}" for caption in CAPTIONS[:2]]
    once = alone(CLIPScore(mini), (squares, depicted))
    assert alone(CLIPScore(mini, prefix="A photo depicts"), (squares, CAPTIONS[:2])) == once
    assert float(clip_score(squares, CAPTIONS[:2], mini, prefix="A photo depicts")) == once
    assert once != alone(CLIPScore(mini), (squares, CAPTIONS[:2]))


@pytest.mark.slow
def test_any_score_is_a_metric(mini: Encoder, made: Made, squares: torch.Tensor) -> None:
    """With captions, where a score needs them or takes them, and without any where it takes none."""
    captions = CAPTIONS[:2]
    for name, model, texts in (
        ("aesthetic", mini, None),
        ("clip-iqa", mini, None),
        ("clip-iqa", mini, captions),
        ("blip-itm", made("blip"), captions),
    ):
        scorer = load(name, model)
        rows = foclip.score(squares, None if texts is None else [[text] for text in texts], model=scorer)
        metric = MeanScore(name, model)
        for place in range(2):  # one at a time, as a loop gives them
            metric.update(squares[place], texts and texts[place])
        assert float(metric.clone().compute()) == pytest.approx(np.mean([row.score for row in rows]), abs=1e-6), name
        assert float(MeanScore(scorer)(squares, caption_list=texts)) == float(metric.compute())
    with pytest.raises(UsageError, match="captions: aesthetic takes none"):
        MeanScore("aesthetic", mini).update(squares, captions)
    with pytest.raises(UsageError, match="captions: give one for each of the 2"):
        MeanScore("clipscore", mini).update(squares)
    with pytest.raises(UsageError, match="cannot match"):
        MeanScore("blip-itm", mini)


def test_pairs_of_all_pictures_and_captions(mini: Encoder, squares: torch.Tensor) -> None:
    found = pairwise_clip_score(squares, CAPTIONS[:3], mini, scale=100)
    expected = [row.scores for row in foclip.score(squares, CAPTIONS[:3], model=Score(mini, 100))]
    assert found.tolist() == expected
    assert found.shape == (2, 3)
    assert pairwise_clip_score(squares[0], "a cat", mini).shape == (1, 1)


def test_a_long_caption_keeps_its_end_and_says_so(mini: Encoder, squares: torch.Tensor) -> None:
    """Of a caption that does not fit, torchmetrics drops the end-of-text token, where CLIP reads its result."""
    assert isinstance(mini, OpenClipEncoder)
    words = mini.tokenizer.context_length - 2  # each of one token, between the beginning and the end
    fits, long = (" ".join(["cat"] * count) for count in (words, 3 * words))
    once = alone(CLIPScore(mini), (squares[:1], [fits]))
    with pytest.warns(PromptTruncationWarning, match=f"1 of 1 prompts are longer than the {words + 2} tokens mini"):
        assert alone(CLIPScore(mini), (squares[:1], [long])) == once
    with pytest.warns(PromptTruncationWarning, match="1 of 1"):  # of each batch
        alone(CLIPScore(mini), (squares[:1], [fits]), (squares[:1], [f"{long} cat"]))


@pytest.mark.slow
def test_a_figure_depends_on_no_batch(mini: Encoder, squares: torch.Tensor) -> None:
    pictures = [to_image(picture).resize((70 + number, 60)) for picture in squares for number in range(5)]
    captions, found = [f"a photo of {number} cats" for number in range(10)], set()
    for size in (1, 4, 10):
        parts = [slice(first, first + size) for first in range(0, 10, size)]
        found.add(alone(CLIPScore(mini), *((pictures[part], captions[part]) for part in parts)))
        whole = torch.cat([pairwise_clip_score(pictures[part], captions[:2], mini) for part in parts])
        assert torch.equal(whole, pairwise_clip_score(pictures, captions[:2], mini))
    assert len(found) == 1


#: What two processes do, the second a fork of the first: their pictures are their own, and what they compute is of all.
RANKS = """
import os, sys, torch, torch.distributed as dist
from pathlib import Path
from torchmetrics import MetricCollection
from foclip.metrics import CLIPScore, RobustCLIPScore

RobustCLIPScore("mini")  # what this takes long to load is there for both
second = os.fork()
folder, rank = Path(sys.argv[1]), int(second == 0)
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
squares, captions = torch.load(folder / "given.pt")
parts = {0: [slice(0, 1), slice(1, 2)], 1: [slice(2, 3)]}[rank]  # one of them sees more
plain, step = CLIPScore("mini"), CLIPScore("mini", scale=100, dist_sync_on_step=True)
both = MetricCollection({"own": plain, "robust": RobustCLIPScore("mini")})
for part in parts:
    both.update(squares[part], captions[part])
found = {name: float(value) for name, value in both.compute().items()}
found["step"] = float(step(squares[parts[0]], captions[parts[0]]))
found["unsynced"] = float(plain.clip_score)
torch.save(found, folder / f"{rank}.pt")
assert rank == 1 or os.waitpid(second, 0)[1] == 0
"""


@pytest.mark.slow
def test_two_processes_compute_what_one_does(mini: Encoder, small_photos: list[Image.Image], tmp_path: Path) -> None:
    squares = torch.stack([to_tensor(photo.resize((80, 80))) for photo in small_photos[:3]])
    torch.save((squares, CAPTIONS[:3]), tmp_path / "given.pt")
    ranks = executed(RANKS, tmp_path)
    ranks.join(120)
    assert ranks.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    whole = RobustCLIPScore(mini)
    whole.update(squares, CAPTIONS[:3])
    expected = {name: float(value) for name, value in whole.compute().items()}
    assert first["own"] == second["own"] == pytest.approx(expected["clip_score"], abs=1e-6)
    for name, value in expected.items():
        assert first[name] == second[name] == pytest.approx(value, abs=1e-6)
    of_step = 100 / 2.5 * alone(CLIPScore(mini), (squares[[0, 2]], [CAPTIONS[0], CAPTIONS[2]]))
    assert first["step"] == second["step"] == pytest.approx(of_step, abs=1e-4)
    assert first["unsynced"] != second["unsynced"]  # each goes on with its own sums


@pytest.mark.slow
def test_a_metric_reads_pictures_as_everything_else_does(
    mini: Encoder, score: Score, small_photos: list[Image.Image], tmp_path: Path
) -> None:
    """16-bit gray, transparent and turned pictures: one figure from the metric, from `foclip.score` and of the file."""
    photo = small_photos[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    clear.save(tmp_path / "clear.png")
    Image.fromarray(np.asarray(photo.convert("L"), dtype=np.uint16) * 257).save(tmp_path / "16bit.png")
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    caption = CAPTIONS[0]
    for name in ("clear.png", "16bit.png", "turned.png"):
        (expected,) = foclip.score(tmp_path / name, [caption], model=score)
        for picture in (tmp_path / name, str(tmp_path / name), Image.open(tmp_path / name)):
            assert float(clip_score([picture], [caption], mini)) == pytest.approx(expected.score, abs=1e-5), name
            robust = robust_clip_score([picture], [caption], mini)
            assert float(robust["clip_score"]) == pytest.approx(expected.score, abs=1e-5), name
    (turned,) = foclip.score(tmp_path / "turned.png", [caption], model=score)
    assert turned.score == scores_of(score, photo, (caption,))[0]
    with pytest.raises(UsageError, match=r"none\.png: no such file"):
        clip_score([tmp_path / "none.png"], [caption], mini)


@pytest.mark.slow
def test_the_robust_score_replaces_pictures_called_tampered(
    mini: Encoder, score: Score, detector: Detector, small_photos: list[Image.Image]
) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=20, budgets="psnr:35")
    captions = [CAPTIONS[i] for i in (1, 2, 3, 0)]
    prompts = [(caption,) for caption in captions]
    jobs = [AttackTask(to_tensor(p), own, i) for i, (p, own) in enumerate(zip(small_photos, prompts, strict=True))]
    fooled = [to_image(f.pixels) for f in sorted(run(jobs, score, attack), key=lambda f: int(f.task.tag))]
    result = robust_clip_score(fooled, captions, mini, detector)
    judge = BatchDetector(detector, score)
    found = judge([judge.preprocess(picture) for picture in fooled], prompts)
    tampered = [verdict.verdict == "tampered" for _, verdict in found]
    assert float(result["tampered"]) == np.mean(tampered) > 0
    expected = np.mean([min(s.scores.values()) if f else s.score for (s, _), f in zip(found, tampered, strict=True)])
    assert float(result["robust_clip_score"]) == pytest.approx(expected, abs=1e-5)
    assert result["robust_clip_score"] < result["clip_score"]
    untouched = robust_clip_score(small_photos, CAPTIONS, mini, detector)
    assert float(untouched["tampered"]) == 0
    assert untouched["robust_clip_score"] == untouched["clip_score"]
    scaled = RobustCLIPScore(mini, detector, scale=100)  # the scale changes figures, not verdicts
    scaled.update(fooled, captions)
    for name, value in scaled.compute().items():
        assert float(value) == pytest.approx(float(result[name]) * (1 if name == "tampered" else 40), rel=1e-4)


def test_states_add_up_over_processes(mini: Encoder, detector: Detector, small_photos: list[Image.Image]) -> None:
    """What torchmetrics does after a distributed run: states summed, then computed."""
    whole = RobustCLIPScore(mini, detector)
    parts = [RobustCLIPScore(mini, detector) for _ in range(2)]
    whole.update(small_photos, CAPTIONS)
    parts[0].update(small_photos[:1], CAPTIONS[:1])
    parts[1].update(small_photos[1:], CAPTIONS[1:])
    merged = RobustCLIPScore(mini, detector)
    for name in merged._defaults.keys() - {"_setup"}:  # which tells metrics apart, and is no sum
        assert merged._reductions[name] is torchmetrics_sum()
        setattr(merged, name, getattr(parts[0], name) + getattr(parts[1], name))
    merged._update_count = 1
    for key, value in whole.compute().items():
        assert float(merged.compute()[key]) == pytest.approx(float(value), abs=1e-6)


@pytest.fixture
def squares(small_photos: list[Image.Image]) -> torch.Tensor:
    return torch.stack([to_tensor(photo.resize((80, 80))) for photo in small_photos[:2]])


def alone(metric: Metric, *batches: tuple[Any, Any]) -> float:
    for batch in batches:
        metric.update(*batch)
    return float(metric.compute())


@pytest.mark.slow
def test_a_collection_gives_what_single_metrics_give(mini: Encoder, squares: torch.Tensor) -> None:
    """States that are equal after the first batch, as of a picture that fits no caption, make no two metrics one."""
    captions = imagenet(100)
    (row,) = foclip.score(squares[:1], list(captions), model=mini)
    unlike = captions[row.scores.index(0)]
    batches = (squares[:1], [unlike]), (squares, CAPTIONS[:2])
    collection = MetricCollection({"own": CLIPScore(mini), "torchmetrics": CLIPScore(mini, scale=100)})
    strict = Detector.load(SHIPPED / "mini.json")
    detectors = {"all": dataclasses.replace(strict, fpr=0.99), "few": strict}
    collection.add_metrics({name: RobustCLIPScore(mini, detector)["tampered"] for name, detector in detectors.items()})
    robust = MetricCollection({name: RobustCLIPScore(mini, detector) for name, detector in detectors.items()})
    for batch in batches:
        collection.update(*batch)
        robust.update(*batch)
    found = {name: float(value) for name, value in collection.compute().items()}
    assert found["own"] == alone(CLIPScore(mini), *batches) > 0
    assert found["torchmetrics"] == alone(CLIPScore(mini, scale=100), *batches)
    assert robust.compute_groups == {0: ["all"], 1: ["few"]}
    for name, detector in detectors.items():
        assert found[name] == alone(RobustCLIPScore(mini, detector)["tampered"], *batches)
    twins = MetricCollection({"one": (metric := CLIPScore(mini)), "other": metric.clone()})
    assert twins(*batches[1])["one"] == twins.compute()["other"]


@pytest.mark.slow
def test_a_metric_is_combined_copied_and_sent(mini: Encoder, squares: torch.Tensor) -> None:
    batch = squares, CAPTIONS[:2]
    once, (first, second) = (
        alone(CLIPScore(mini), batch),
        (alone(CLIPScore(mini), (squares[i : i + 1], [CAPTIONS[i]])) for i in (0, 1)),
    )
    metric, robust = CLIPScore(mini), RobustCLIPScore(mini)
    for other in (metric, metric.clone(), pickle.loads(pickle.dumps(metric)), robust["robust_clip_score"].clone()):
        assert float(other(*batch)) == once
    assert float(pickle.loads(pickle.dumps(robust))(*batch)["clip_score"]) == once
    assert CLIPScore(mini).clone()._prober.scorer.encoder is mini  # many copies have one set of weights
    assert alone(CLIPScore(mini) + CLIPScore(mini, scale=100), batch) == pytest.approx(41 * once)
    ranks: dict[str, Any] = {
        "dist_sync_fn": lambda state, group=None: [state, state],
        "distributed_available_fn": lambda: True,
    }
    assert alone(CLIPScore(mini, **ranks), batch) == once
    merged, more = CLIPScore(mini), CLIPScore(mini)
    merged.update(squares[:1], CAPTIONS[:1])
    more.update(squares[1:], CAPTIONS[1:2])
    merged.merge_state(more)
    assert float(merged.compute()) == pytest.approx(once, abs=1e-6)
    running, smallest, tracker = (
        Running(CLIPScore(mini), 1),
        MinMaxMetric(CLIPScore(mini)),
        MetricTracker(CLIPScore(mini)),
    )
    for picture, caption in zip(squares, CAPTIONS, strict=False):
        running.update(picture[None], [caption])
        smallest(picture[None], [caption])
        tracker.increment()
        tracker.update(picture[None], [caption])
    assert float(running.compute()) == second
    assert float(smallest.compute()["max"]) == max(first, second)
    assert tracker.compute_all().tolist() == [first, second]


def logged(mini: Encoder, squares: torch.Tensor) -> float:
    """A checkpoint of a module with a metric, as Lightning resumes it."""
    metrics = [CLIPScore(mini), CLIPScore(mini)]
    for metric in metrics:
        metric.persistent(True)
    one, other = (torch.nn.ModuleDict({"metric": metric}) for metric in metrics)
    metrics[0].update(squares, CAPTIONS[:2])
    other.load_state_dict(one.state_dict())
    metrics[1].update(squares[:0], [])
    return float(metrics[1].compute())


def halves(metric: Metric, squares: torch.Tensor) -> float:
    """The same two pictures, one after the other, as a wrapper of a metric takes them."""
    for number in (0, 1):
        metric.update(squares[number : number + 1], CAPTIONS[number : number + 1])
    return float(metric.compute())


def tracked(mini: Encoder, squares: torch.Tensor) -> float:
    tracker = MetricTracker(MetricCollection({"a": CLIPScore(mini), "b": CLIPScore(mini, scale=1)}), [True, False])
    for part in (slice(0, 1), slice(0, 2)):
        tracker.increment()
        tracker.update(squares[part], CAPTIONS[part])
    return float(tracker.compute_all()["a"][1])


def multitask(mini: Encoder, squares: torch.Tensor) -> float:
    metric = MultitaskWrapper({"x": CLIPScore(mini), "y": CLIPScore(mini, scale=1)})
    metric.update({"x": squares, "y": squares}, {"x": CAPTIONS[:2], "y": CAPTIONS[:2]})
    found = metric.compute()
    assert float(found["x"]) == pytest.approx(2.5 * float(found["y"]), abs=1e-6)
    return float(found["x"])


def nested(mini: Encoder, squares: torch.Tensor) -> float:
    metric = MetricCollection({"x": MetricCollection({"a": CLIPScore(mini)}, prefix="val_")})
    metric.update(squares, CAPTIONS[:2])
    return float(metric.clone(prefix="test_").compute()["test_x_val_a"])


#: What torchmetrics makes of a metric that has seen two pictures with their captions.
COMBINED: dict[str, Callable[[Encoder, torch.Tensor], float]] = {
    "state dict": logged,
    "tracker of a collection": tracked,
    "multitask": multitask,
    "nested collections": nested,
    "running": lambda mini, squares: halves(Running(CLIPScore(mini), 2), squares),
    "compute on cpu": lambda mini, squares: halves(CLIPScore(mini, compute_on_cpu=True), squares),
    "sum of metrics": lambda mini, squares: halves(CLIPScore(mini) - CLIPScore(mini, 0.5), squares) / 0.8,
    "transformed": lambda mini, squares: halves(
        LambdaInputTransformer(CLIPScore(mini), lambda pictures: (pictures + 1) / 2), squares.double() / 127.5 - 1
    ),
}


@pytest.mark.parametrize("way", COMBINED)
def test_wrappers_give_what_a_single_metric_gives(mini: Encoder, squares: torch.Tensor, way: str) -> None:
    once = alone(CLIPScore(mini), (squares, CAPTIONS[:2]))
    assert COMBINED[way](mini, squares) == pytest.approx(once, abs=1e-6)


def test_captions_in_other_sequences_and_a_plot(mini: Encoder, squares: torch.Tensor) -> None:
    once = alone(CLIPScore(mini), (squares, CAPTIONS[:2]))
    for captions in (tuple(CAPTIONS[:2]), np.array(CAPTIONS[:2]), pd.Series(CAPTIONS[:2], index=[7, 8])):
        assert alone(CLIPScore(mini), (squares, captions)) == once
    metric = CLIPScore(mini)
    metric.update(squares, CAPTIONS[:2])
    figure, axis = metric.plot()
    assert axis.lines[0].get_ydata()[0] == pytest.approx(once)
    plt.close(figure)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_are_in_no_lower_precision(mini: Encoder, squares: torch.Tensor, dtype: torch.dtype) -> None:
    """Lightning's `bf16-true` casts a whole module, and with it the metrics that it holds."""
    expected = alone(CLIPScore(mini), (squares, CAPTIONS[:2]), (squares, CAPTIONS[2:]))
    module = torch.nn.ModuleDict({"metric": CLIPScore(mini), "tampered": RobustCLIPScore(mini)["tampered"]})
    metric = module["metric"]
    assert isinstance(metric, CLIPScore)
    for captions in (CAPTIONS[:2], CAPTIONS[2:]):
        module.to(dtype)
        metric.set_dtype(dtype)
        metric.update(squares, captions)
    module.to("cpu", dtype)
    assert float(metric.compute()) == expected


def test_a_hardened_encoder_of_another_is_refused(
    mini: Encoder, squares: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = copy.copy(mini)
    stranger.name = "stranger"
    monkeypatch.setattr(stranger, "texts", lambda texts: mini.texts(texts).roll(1, dims=1), raising=False)
    for call in (
        lambda: foclip.score(squares, ["a cat"], model=mini, hardened="mini-vit-robust-44"),
        lambda: foclip.score(squares, score="clip-iqa", model=mini, hardened="mini-vit"),
        lambda: foclip.score(squares, ["a cat"], model=mini, hardened="mini"),
        lambda: RobustCLIPScore(mini, hardened="mini-vit-robust-44"),
        lambda: hardened_scores(Score(mini), ["mini-robust", "mini-vit-robust-44"]),
        lambda: foclip.score(squares, ["a cat"], model=mini, hardened="blurred:mini-vit"),
        lambda: foclip.score(squares, ["a cat"], model="blurred:mini", hardened="mini"),
        lambda: foclip.score(squares, ["a cat"], model="blurred:mini", hardened="blurred:mini"),
        lambda: foclip.score(squares, ["a cat"], model=mini, hardened=stranger),
    ):
        with pytest.raises(UsageError, match=r"hardened: .* is no hardened version of (blurred:)?mini"):
            call()


def test_a_detector_of_another_encoder_or_score(mini: Encoder, detector: Detector) -> None:
    for name in ("mini-vit", "mini-robust"):
        with pytest.raises(UsageError, match=f"was calibrated on {name} .* not on mini "):
            RobustCLIPScore(mini, Detector.load(SHIPPED / f"{name}.json"))
    assert detector.note("clipscore") is None
    for own, asked in (("clip-iqa", "clipscore"), ("clipscore", "clip-iqa"), ("toy", "clip-iqa")):
        note = dataclasses.replace(detector, score=own).note(asked)
        assert f"calibrated on {own}, so it judges without prompts; the drops and scores of {asked}" in str(note)


@pytest.mark.parametrize("sampling", ["poisson", "multinomial"])
def test_a_bootstrap_that_would_mix_up_captions_is_refused(mini: Encoder, squares: torch.Tensor, sampling: str) -> None:
    for metric in (CLIPScore(mini), RobustCLIPScore(mini), RobustCLIPScore(mini)["tampered"]):
        with pytest.raises(
            UsageError, match=r"BootStrapper .* mix up pictures and captions; wrap torchmetrics\.MeanMetric"
        ):
            BootStrapper(metric, sampling_strategy=sampling).update(squares, CAPTIONS[:2])
    scores = torch.tensor([row.score for row in foclip.score(squares, [[c] for c in CAPTIONS[:2]], model=mini)])
    resampled = BootStrapper(MeanMetric(), sampling_strategy=sampling)
    resampled.update(scores.repeat(20))
    assert scores.min() <= resampled.compute()["mean"] <= scores.max()


@pytest.mark.slow
def test_importing_the_metrics_loads_no_tables_and_no_plots() -> None:
    heavy = ("pandas", "pyarrow", "matplotlib", "jinja2", "sklearn", "skimage", "torchmetrics")
    code = f"import sys, foclip.metrics; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def torchmetrics_sum() -> object:
    from torchmetrics.utilities.data import dim_zero_sum

    return dim_zero_sum


@pytest.mark.slow
def test_a_hardened_encoder_scores_too(run: Run, small_photos: list[Image.Image], tmp_path: Path) -> None:
    small_photos[0].save(tmp_path / "a.png")
    code, text, _ = run("score", tmp_path / "a.png", "--prompt", "a cat", "--hardened", "mini-robust", "--json")
    assert code == 0
    (row,) = json.loads(text)
    robust = foclip.score(tmp_path / "a.png", ["a cat"], model="mini-robust").results[0].score
    assert row["hardened_score"] == robust != row["score"]
    assert row["gap"] == row["score"] - robust
    metric = RobustCLIPScore("mini", hardened="mini-robust")
    metric.update(small_photos[:1], ["a cat"])
    found = metric.compute()
    assert float(found["hardened_score"]) == pytest.approx(robust, abs=1e-4)
    assert float(found["gap"]) == pytest.approx(row["gap"], abs=1e-4)
    plain = Score(load_encoder("mini"))
    hardened = {"hardened": plain.with_encoder(load_encoder("mini-robust"))}
    (seen,) = measure(plain, small_photos[:1], [("a cat",)], ["gray", "hardened"], hardened)
    assert seen.scores["hardened"] == pytest.approx(robust, abs=1e-4)
    assert seen.drifts.keys() == seen.drops.keys() == {"gray", "hardened"}
