"""What a caller's program has set for its own computations, and how many threads call, reach no figure."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import foclip
from benchmarks import threads
from foclip.attacks import FoCLIP
from foclip.core.attacking import Attacked, attack
from foclip.data.images import to_tensor
from foclip.metrics import CLIPScore, clip_score, robust_clip_score
from foclip.models import Encoder, OpenClipEncoder, load_encoder
from foclip.models.scores import CLIPIQA
from foclip.models.scores import CLIPScore as Score
from foclip.perceptual.fidelity import fidelity

CAPTIONS = ("a photo of an astronaut.", "a photo of a cat.")


@contextmanager
def restored(change: Callable[[Any], None], value: Any, back: Any) -> Iterator[None]:
    change(value)
    try:
        yield
    finally:
        change(back)


#: What a program may be set to.
SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "bfloat16": lambda: restored(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "float64": lambda: restored(torch.set_default_dtype, torch.float64, torch.float32),
    "another device": lambda: torch.device("meta"),
    "another device for good": lambda: restored(torch.set_default_device, "meta", None),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "fast products": lambda: restored(torch.set_float32_matmul_precision, "medium", "highest"),
    "strict numpy": lambda: np.errstate(all="raise"),
}


def figures(score: Score, pictures: list[Image.Image]) -> dict[str, Any]:
    """Figures of two pictures with one caption each, by everything public that makes some."""
    levels = torch.stack([score.preprocess.image(picture) for picture in pictures])
    prompts = [[caption] for caption in CAPTIONS]
    texts = score.encoder.encode_texts(CAPTIONS)
    found = {
        "scores": [row.score for row in foclip.score(pictures, prompts, model=score)],
        "clip-iqa": [row.score for row in foclip.score(pictures, model=CLIPIQA(score.encoder))],
        "verdicts": [(row.p_value, row.drop, row.drift) for row in foclip.detect(pictures, prompts, model=score)],
        "metric": float(clip_score(pictures, CAPTIONS, score.encoder)),
        "robust": {key: float(value) for key, value in robust_clip_score(pictures, CAPTIONS, score.encoder).items()},
        "texts": texts.tolist(),
        "pictures": score.encoder.encode_pictures(pictures).tolist(),
        "raw": score(levels, texts).tolist(),
        "fidelity": vars(fidelity(to_tensor(pictures[0]), to_tensor(pictures[0].rotate(180)))),
    }
    assert texts.dtype == torch.float32
    return found


@pytest.fixture(scope="module")
def expected(score: Score, small_photos: list[Image.Image]) -> dict[str, Any]:
    return figures(score, small_photos[:2])


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_reach_no_figure(
    setting: str, score: Score, small_photos: list[Image.Image], expected: dict[str, Any]
) -> None:
    with SETTINGS[setting]():
        found = figures(score, small_photos[:2])
    for name, value in expected.items():
        assert found[name] == value, name


@pytest.mark.parametrize("before", ["medium", "high", "highest"])
def test_products_are_in_no_lower_precision(before: str, mini: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors and GPUs that have bfloat16 round to it where a program says "medium", as Lightning advises."""
    met: list[str] = []

    def texts(*_: object) -> torch.Tensor:
        met.append(torch.get_float32_matmul_precision())
        return torch.ones(1)

    monkeypatch.setattr(OpenClipEncoder, "texts", texts)
    with restored(torch.set_float32_matmul_precision, before, "highest"):
        mini.encode_texts(["a cat"])
        assert torch.get_float32_matmul_precision() == before
    assert met == ["highest"]


def test_the_number_of_threads_is_a_matter_of_rounding(score: Score, small_photos: list[Image.Image]) -> None:
    one: list[float] = []
    two: list[float] = []
    for found, count in ((one, 1), (two, 2)):
        with restored(torch.set_num_threads, count, 1):
            found += [row.score for row in foclip.score(small_photos, [CAPTIONS[0]], model=score)]
    assert one == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_made_in_a_setting_is_as_any_other(
    setting: str, score: Score, small_photos: list[Image.Image], expected: dict[str, Any]
) -> None:
    """A model that was loaded there, and a metric that was updated there, work everywhere afterwards."""
    metric = CLIPScore(score.encoder)
    with SETTINGS[setting]():
        encoder = load_encoder("mini")
        metric.update(small_photos[:2], CAPTIONS)
        texts = encoder.encode_texts(CAPTIONS)
        dtype = torch.get_default_dtype()
        targets = foclip.load("clip-iqa", encoder).encode_prompts(["photo."])
        assert isinstance(targets, torch.Tensor)
        assert targets.dtype == torch.float32
        assert torch.get_default_dtype() == dtype
    assert float(metric.compute()) == expected["metric"]
    metric.update(small_photos[:2], CAPTIONS)
    assert float(metric.compute()) == expected["metric"]
    assert encoder.fingerprint == score.encoder.fingerprint
    assert texts.tolist() == expected["texts"]
    pixels = torch.rand(1, 3, 70, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad((encoder.embed(pixels) @ texts.T).sum(), pixels)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_reach_no_attack(setting: str, score: Score, small_photos: list[Image.Image]) -> None:
    def fooled() -> tuple[list[float], torch.Tensor]:
        sample = foclip.Sample("photo", small_photos[0].resize((70, 80)), CAPTIONS)
        (result,) = attack([sample], score, FoCLIP(), stop=foclip.Stopping(3))
        assert isinstance(result, Attacked)
        return result.curve, result.pixels

    curve, pixels = fooled()
    with SETTINGS[setting]():
        found, same = fooled()
    assert found == curve
    assert torch.equal(same, pixels)


@pytest.mark.parametrize("setting", ["float64", "fast products"])
def test_threads_leave_what_the_caller_set(setting: str, mini: Encoder, expected: dict[str, Any]) -> None:
    with SETTINGS[setting](), ThreadPoolExecutor(8) as pool:
        before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
        assert before != (torch.float32, "highest")
        found = [*pool.map(lambda _: mini.encode_texts(CAPTIONS).tolist(), range(16))]
        assert found == [expected["texts"]] * 16
        assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize("setting", ["autocast to bfloat16", "float64", "fast products", "inference mode"])
def test_threads_of_which_each_second_has_a_setting(setting: str, mini: Encoder, expected: dict[str, Any]) -> None:
    # Where a thread lowers the precision of products while another computes, torch lowers it for both.
    shared = setting == "fast products"
    ready = Barrier(8 if shared else 1)

    def texts(number: int) -> list[list[float]]:
        with SETTINGS[setting]() if number % 2 else nullcontext():
            ready.wait(60)
            found = mini.encode_texts(CAPTIONS).tolist()
            ready.wait(60)
            return found

    try:
        with ThreadPoolExecutor(8) as pool:
            assert [*pool.map(texts, range(16))] == [expected["texts"]] * 16
    finally:  # threads that set what all of them share leave it as the last one found it
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


@pytest.mark.slow
def test_eight_threads_get_what_one_gets(mini: Encoder, small_photos: list[Image.Image]) -> None:
    """`python -m benchmarks.threads` does so for a minute."""
    assert isinstance(mini, OpenClipEncoder)
    made, wrong = threads.compare(mini, small_photos, seconds=2)
    assert wrong == {}
    assert made.keys() == threads.calls(mini, small_photos, ()).keys()
