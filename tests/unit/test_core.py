"""Streams in memory: no file is written, failures come as values, a stream that is closed leaves nothing behind."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

import foclip
from foclip.attacks import PGD, AttackState, Constraint, Stopping, default_plan
from foclip.attacks.loop import bytes_needed
from foclip.core import attacking, scoring
from foclip.core.attacking import Attacked, attack
from foclip.data.images import to_tensor
from foclip.data.samples import Sample
from foclip.models import Scorer, load
from foclip.models.scores import CLIPScore
from foclip.outcome import Failure
from foclip.perceptual.budget import Budget
from foclip.runs.fooling import fool

STOP = Stopping(steps=4)
LIMITS = Constraint(budgets=(Budget("psnr", 35.0),))


@pytest.fixture
def scorer(toys: None) -> Scorer:
    return load("toy")


@pytest.fixture
def samples(small_photos: list[Image.Image]) -> list[Sample]:
    return [Sample(f"photo {n}", photo.resize((80, 70)), ("a cat",)) for n, photo in enumerate(small_photos)]


def pixels_of(found: Iterator[Attacked | Failure]) -> dict[str, torch.Tensor]:
    return {each.sample.name: each.pixels for each in found if isinstance(each, Attacked)}


def test_scores_and_failures_come_in_order(samples: list[Sample], scorer: Scorer, tmp_path: Path) -> None:
    bare = Sample("bare", samples[0].image)
    stream: list[Sample | Failure] = [
        Failure("caption", "no picture"),
        samples[0],
        Sample("gone", tmp_path / "gone.png", ("a",)),
        bare,
    ]
    found = list(scoring.score(iter(stream), scorer))
    assert [each.image if isinstance(each, scoring.Scored) else each.source for each in found] == [
        "caption",
        "photo 0",
        "gone",
        "bare",
    ]
    assert isinstance(found[3], Failure)
    assert "no prompts, and toy needs some" in found[3].reason


def test_an_attack_writes_no_file(
    samples: list[Sample], scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    steps: list[tuple[int, ...]] = []

    def on_step(states: Sequence[AttackState]) -> None:
        steps.append(tuple(states[0].preview().shape))

    stream: list[Sample | Failure] = [samples[0], Failure("caption", "no picture"), Sample("gone", "gone.png", ("a",))]
    found = list(foclip.attack(stream, scorer, constraint=LIMITS, stop=STOP, on_step=on_step))
    assert list(tmp_path.iterdir()) == []
    assert {each.source for each in found if isinstance(each, Failure)} == {"caption", "gone"}
    (attacked,) = [each for each in found if isinstance(each, Attacked)]
    assert attacked.sample is samples[0]
    assert (attacked.steps, attacked.stopped_by, len(attacked.curve)) == (4, "steps", 5)
    assert attacked.curve[-1] > attacked.curve[0]
    assert steps == [(3, 70, 80)] * 5
    assert isinstance(samples[0].image, Image.Image)
    assert torch.equal(attacked.original, to_tensor(samples[0].image))
    # what `fool` writes is the same picture
    plan = default_plan(scorer, steps=4, budgets=("psnr:35",), mask="none")
    (result,) = fool(samples[0].image, ["a cat"], "out", model=scorer, attack=plan)
    assert torch.equal(to_tensor(Image.open(result.output)), attacked.pixels)


def test_by_default_nobody_notices(samples: list[Sample], scorer: Scorer) -> None:
    plan = default_plan(scorer)
    for method in (None, PGD()):
        (found,) = attack(samples[:1], scorer, method, stop=Stopping(steps=1))
        assert isinstance(found, Attacked)
    assert [str(budget) for budget in plan.constraint.budgets] == ["contrast:0.425"]


def test_closing_ends_an_attack_and_leaves_no_thread(samples: list[Sample], scorer: Scorer) -> None:
    before, done = threading.active_count(), list[int]()
    stream = attack(samples, scorer, constraint=LIMITS, stop=STOP, on_step=lambda states: done.append(len(states)))
    assert isinstance(next(stream), Attacked)
    steps = len(done)
    stream.close()
    assert (len(done), threading.active_count()) == (steps, before)
    assert list(stream) == []


def test_an_exception_in_a_step_ends_an_attack(samples: list[Sample], scorer: Scorer) -> None:
    before = threading.active_count()

    def enough(states: Sequence[AttackState]) -> None:
        if states[0].step == 2:
            raise StopAsyncIteration  # anything

    with pytest.raises(StopAsyncIteration):
        list(attack(samples, scorer, constraint=LIMITS, stop=Stopping(steps=1000), on_step=enough))
    assert threading.active_count() == before


def test_two_threads_give_what_each_gives_alone(samples: list[Sample], score: CLIPScore, scorer: Scorer) -> None:
    scorers: list[Scorer] = [score, scorer]

    def attacked(which: int) -> dict[str, torch.Tensor]:
        return pixels_of(attack(samples[2 * which :][:2], scorers[which], constraint=LIMITS, stop=STOP))

    alone = [attacked(which) for which in range(2)]
    together: dict[int, dict[str, torch.Tensor]] = {}
    threads = [threading.Thread(target=lambda n=n: together.update({n: attacked(n)})) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, expected in enumerate(alone):
        assert together[which].keys() == expected.keys()
        assert all(torch.equal(together[which][name], pixels) for name, pixels in expected.items())


def test_memory_of_contrast_counts(scorer: Scorer) -> None:
    """It keeps weights of every pixel of three opponents, and colours; a look takes at least the change itself."""
    plain, default = (
        bytes_needed(plan, scorer, 10**6) for plan in (default_plan(scorer, min_psnr=35), default_plan(scorer))
    )
    assert default - plain >= 3 * 4 * 10**6 * (4 / 3 + 1 / 4 + 1)


def test_pictures_wait_until_there_is_memory(
    samples: list[Sample], scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Sample("large", Image.new("RGB", (400, 300), "red"), ("a cat",))
    plan = default_plan(scorer, steps=2)
    need = bytes_needed(plan, scorer, 80 * 70)
    monkeypatch.setattr(attacking, "available_memory", lambda device: 2 * need + 1)
    active: list[int] = []
    found = list(attacking.attack_with(plan, [large, *samples], scorer, on_step=lambda s: active.append(len(s))))
    assert isinstance(found[0], Failure)
    assert "400×300 pixels need about" in found[0].reason
    assert len(found) == 1 + len(samples)
    assert max(active) == 2
