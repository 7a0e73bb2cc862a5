import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from conftest import file_score, fooled_by
from PIL import Image
from torch import Tensor

from foclip.attacks import AttackResult, AttackState, AttackTask, FoCLIP, make_plan, objective, run
from foclip.attacks.constraint import TOLERANCE
from foclip.cache import Cache
from foclip.data.images import to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.errors import UsageError
from foclip.models import Encoder, ScoreInfo, Scorer
from foclip.models.scorer import Inputs, Targets
from foclip.models.scores import CLIPScore
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import fidelity


@pytest.fixture(scope="module")
def pictures(small_photos: list[Image.Image]) -> list[Tensor]:
    return [to_tensor(picture) for picture in small_photos]


@pytest.mark.slow
def test_scores_rise_within_the_budget(score: CLIPScore, pictures: list[Tensor]) -> None:
    results = fooled_by(
        make_plan(FoCLIP, objective=objective(), steps=30, budgets="psnr:35"), score, pictures, ARTWORKS
    )
    assert [fooled.task.tag for fooled in results] == list(range(len(pictures)))
    for fooled, original in zip(results, pictures, strict=True):
        before, after = (file_score(score, x, ARTWORKS) for x in (original, fooled.pixels))
        assert after > max(1.427 * before, before + 0.1)
        assert fidelity(fooled.pixels, original).psnr >= 35.0
        assert fooled.pixels.dtype == torch.uint8
        assert fooled.steps == 30
        assert len(fooled.scores) == 31
        # the loop sees what the file will score
        assert fooled.scores[0] == pytest.approx(before, abs=0.01)
        assert max(fooled.scores) == pytest.approx(after, abs=0.01)


@pytest.mark.parametrize("min_psnr", [20.0, 45.0, 58.0, 80.0])
def test_no_budget_is_ever_violated(score: CLIPScore, pictures: list[Tensor], min_psnr: float) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=8, budgets=Budget("psnr", min_psnr))
    for fooled, original in zip(fooled_by(attack, score, pictures[:2], ARTWORKS), pictures, strict=False):
        assert fidelity(fooled.pixels, original).psnr >= min_psnr


@pytest.mark.slow
def test_batch_mates_do_not_matter(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=5, budgets="psnr:35", batch_size=4)
    together = fooled_by(attack, score, pictures, ARTWORKS)
    backwards = fooled_by(attack, score, pictures[::-1], ARTWORKS)[::-1]
    alone = [fooled_by(attack, score, [picture], ARTWORKS)[0] for picture in pictures]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.pixels, c.pixels)
        assert a.scores == b.scores == c.scores


def test_a_seed_repeats_exactly(score: CLIPScore, pictures: list[Tensor]) -> None:
    def noise(seed: int) -> list[AttackResult]:
        attack = make_plan(FoCLIP, objective=objective(), steps=5, init="noise", seed=seed)
        return fooled_by(attack, score, pictures[:2], ARTWORKS)

    first, again, other = noise(1), noise(1), noise(2)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].pixels, other[0].pixels)
    assert not torch.equal(first[0].pixels[:, :150, :150], first[1].pixels[:, :150, :150])
    assert fidelity(first[0].pixels, pictures[0]).psnr < 15  # it really started from noise


def test_stops_at_the_target_of_the_file(score: CLIPScore, pictures: list[Tensor]) -> None:
    target = file_score(score, pictures[0], ARTWORKS) + 0.2
    (fooled,) = fooled_by(
        make_plan(FoCLIP, objective=objective(), steps=500, target=target), score, pictures[:1], ARTWORKS
    )
    assert fooled.stopped_by == "target"
    assert fooled.steps < 500
    assert file_score(score, fooled.pixels, ARTWORKS) >= target - TOLERANCE * score.info.scale
    (done,) = fooled_by(make_plan(FoCLIP, steps=5, target=0.0), score, pictures[:1], ARTWORKS)
    assert done.steps == 0
    assert torch.equal(done.pixels, pictures[0])


@pytest.mark.slow
def test_prompts_of_their_own(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=8, budgets="psnr:35", batch_size=2)
    tasks = [AttackTask(pictures[0], ARTWORKS[:1], 0), AttackTask(pictures[1], ARTWORKS[3:], 1)]
    mixed = sorted(run(tasks, score, attack), key=lambda fooled: int(fooled.task.tag))
    assert torch.equal(mixed[1].pixels, fooled_by(attack, score, pictures[1:2], ARTWORKS[3:])[0].pixels)
    before, after = (file_score(score, pixels, ARTWORKS[:1]) for pixels in (pictures[0], mixed[0].pixels))
    assert after > before


def test_literal_learning_rate_is_plain_sgd(mini: Encoder, score: CLIPScore, pictures: list[Tensor]) -> None:
    """One step by hand: x - lr · gradient."""
    attack = make_plan(FoCLIP, objective=objective(beta=0.0), steps=1, lr=7.0, momentum=0.5, batch_size=1)
    seen: list[Tensor] = []
    list(
        run(
            [AttackTask(pictures[0], ARTWORKS)],
            score,
            attack,
            on_step=lambda states: seen.append(states[0].space.pixels.clone()),
        )
    )
    x = (pictures[0] / 255).requires_grad_(True)
    cosine = mini.embed(x[None]) @ mini.encode_texts(ARTWORKS).T
    loss = -cosine.mean() + cosine.var(correction=0)
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.allclose(seen[0], x - 7.0 * gradient, atol=1e-6)


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_undisturbed_one_does(
    score: CLIPScore, pictures: list[Tensor], tmp_path: Path
) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=30, budgets="psnr:35", batch_size=2)
    cache = Cache(tmp_path / "store")
    tasks = [AttackTask(picture, ARTWORKS, number) for number, picture in enumerate(pictures[:2])]
    undisturbed = fooled_by(attack, score, pictures[:2], ARTWORKS)

    def interrupt(states: Sequence[AttackState]) -> None:
        if states[0].step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(tasks, score, attack, on_step=interrupt, states=cache))
    kept = {path.name for path in cache.folder.iterdir()}
    assert kept == {f"{attack.key(score, task)}.pt" for task in tasks}
    steps: list[int] = []
    resumed = sorted(
        run(tasks, score, attack, on_step=lambda states: steps.append(states[0].step), states=cache),
        key=lambda fooled: int(fooled.task.tag),
    )
    assert steps[0] == 14
    for a, b in zip(undisturbed, resumed, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert a.scores == b.scores


@pytest.mark.slow
def test_what_was_begun_under_other_settings_is_not_continued(
    score: CLIPScore, pictures: list[Tensor], tmp_path: Path
) -> None:
    def interrupt(states: Sequence[AttackState]) -> None:
        if states[0].step == 2:
            raise KeyboardInterrupt

    attack, task, cache = (
        make_plan(FoCLIP, steps=4, budgets="psnr:35"),
        AttackTask(pictures[0], ARTWORKS),
        Cache(tmp_path),
    )
    with pytest.raises(KeyboardInterrupt):
        list(run([task], score, attack, on_step=interrupt, states=cache))
    others = [
        (make_plan(FoCLIP, steps=4, budgets="psnr:36"), task),
        (make_plan(FoCLIP, steps=4, budgets="psnr:35", batch_size=1), task),
        (attack, AttackTask(pictures[0], ARTWORKS[:1])),
        (attack, AttackTask(pictures[1], ARTWORKS)),
    ]
    for other, its_task in others:
        steps: list[int] = []

        def on_step(states: Sequence[AttackState], seen: list[int] = steps) -> None:
            seen.append(states[0].step)

        list(run([its_task], score, other, on_step=on_step, states=cache))
        assert steps[0] == 1


def test_a_broken_state_starts_over(score: CLIPScore, pictures: list[Tensor], tmp_path: Path) -> None:
    attack, task, cache = (
        make_plan(FoCLIP, steps=3, budgets="psnr:35"),
        AttackTask(pictures[0], ARTWORKS),
        Cache(tmp_path),
    )
    (first,) = run([task], score, attack)
    cache.path(attack.key(score, task), ".pt").write_bytes(b"cut off")
    (second,) = run([task], score, attack, states=cache)
    assert torch.equal(first.pixels, second.pixels)


def test_the_key_is_everything_a_result_depends_on_and_nothing_else(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack, task = make_plan(FoCLIP, steps=3), AttackTask(pictures[0], ARTWORKS)
    same = [
        attack.key(score, task),
        attack.key(score, AttackTask(pictures[0].clone(), ARTWORKS, 7)),
        make_plan(FoCLIP, steps=3, batch_size=attack.execution.slots(score)).key(score, task),
        attack.key(CLIPScore(score.encoder), task),
    ]
    assert len(set(same)) == 1
    different = [
        same[0],
        make_plan(FoCLIP, steps=4).key(score, task),
        make_plan(FoCLIP, steps=3, batch_size=1).key(score, task),
        make_plan(FoCLIP, steps=3, seed=1).key(score, task),
        attack.key(score, AttackTask(pictures[1], ARTWORKS)),
        attack.key(score, AttackTask(pictures[0].flip(2), ARTWORKS)),
        attack.key(score, AttackTask(pictures[0], ARTWORKS[::-1])),
        make_plan(FoCLIP, steps=3, target=1.0).key(CLIPScore(score.encoder), task),
    ]
    assert len(set(different)) == len(different)
    # A target is a figure, so the scale decides where an attack ends.
    aimed = make_plan(FoCLIP, steps=3, target=1.0)
    assert aimed.key(score, task) != aimed.key(CLIPScore(score.encoder, 100), task)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"lr": "fast"},
        {"momentum": 1.0},
        {"target": math.nan},
        {"rise": 0.0},
        {"workers": 0},
        {"precision": "float8"},
        {"mask": "x"},
        {"init": "x"},
        {"batch_size": 0},
    ],
)
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(FoCLIP, **settings)
    assert str(caught.value).startswith(f"{next(iter(settings))}: ")
    assert "\n" not in str(caught.value)


def test_weights_out_of_range() -> None:
    for alpha, beta in ((-1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)):
        with pytest.raises(UsageError):
            objective(alpha, beta)


@pytest.mark.parametrize(
    "picture",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.int16),
        torch.zeros(1, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, dtype=torch.uint8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 0, 8, dtype=torch.uint8),
    ],
    ids=lambda picture: f"{picture.dtype} {tuple(picture.shape)}",
)
def test_a_task_is_an_8_bit_picture(picture: Tensor) -> None:
    with pytest.raises(UsageError, match=r"picture: .* is not uint8 \(3, H, W\)"):
        AttackTask(picture, ("a cat",))


@pytest.mark.parametrize("prompts", [(), [], "a cat", (7,), None])
def test_a_task_has_prompts(score: CLIPScore, prompts: object) -> None:
    """Which scores need some is known where the task is run."""
    with pytest.raises(UsageError, match="prompts: give a list"):
        list(run([AttackTask(torch.zeros(3, 8, 8, dtype=torch.uint8), prompts)], score, make_plan(FoCLIP)))  # type: ignore[arg-type]


def test_no_tasks_are_no_work(score: CLIPScore) -> None:
    assert list(run([], score, make_plan(FoCLIP, steps=3))) == []


def test_pictures_may_end_in_any_order(score: CLIPScore, pictures: list[Tensor]) -> None:
    """The last of three pictures is at its target from the start and leaves first.

    Its target was read in a pass of eight rows and is reached in one of four, which may round differently.
    """
    before = {number: file_score(score, pictures[number], ARTWORKS) for number in range(3)}
    order = sorted(before, key=before.__getitem__)
    attack = make_plan(FoCLIP, objective=objective(), steps=8, target=max(before.values()), budgets="psnr:35")
    found = list(run([AttackTask(pictures[number], ARTWORKS, number) for number in order], score, attack))
    assert sorted(fooled.task.tag for fooled in found) == [0, 1, 2]
    assert found[0].task.tag == order[-1]
    assert found[0].steps == 0


def test_a_state_shows_the_picture_without_touching_it(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=8, budgets="flip99:0.2", mask="visible", batch_size=2)
    seen: list[Tensor] = []
    watched = run(
        [AttackTask(pictures[0], ARTWORKS)], score, attack, on_step=lambda states: seen.append(states[0].preview())
    )
    (fooled,) = watched
    assert all((shown.dtype, shown.shape) == (torch.uint8, pictures[0].shape) for shown in seen)
    assert not torch.equal(seen[0], pictures[0])
    assert torch.equal(fooled.pixels, fooled_by(attack, score, pictures[:1], ARTWORKS)[0].pixels)


def test_closing_ends_it_and_keeps_what_was_begun(score: CLIPScore, pictures: list[Tensor], tmp_path: Path) -> None:
    attack, cache = make_plan(FoCLIP, steps=3, budgets="psnr:35", batch_size=2), Cache(tmp_path / "cache")
    first, second = (AttackTask(picture, ARTWORKS) for picture in pictures[:2])
    steps: list[int] = []
    running = run([first, second], score, attack, on_step=lambda states: steps.append(len(states)), states=cache)
    assert next(running).task is first
    running.close()
    assert steps == [2, 2, 2, 2]
    assert [path.name for path in cache.folder.iterdir()] == [f"{attack.key(score, second)}.pt"]


def test_an_interrupt_keeps_what_was_begun(score: CLIPScore, pictures: list[Tensor], tmp_path: Path) -> None:
    attack, cache = make_plan(FoCLIP, steps=3, budgets="psnr:35", batch_size=1), Cache(tmp_path / "cache")
    tasks = [AttackTask(picture, ARTWORKS) for picture in pictures[:2]]
    done: list[AttackResult] = []

    def interrupt(states: Sequence[AttackState]) -> None:
        if done and states[0].step == 2:
            raise KeyboardInterrupt

    def take() -> None:
        for result in run(tasks, score, attack, on_step=interrupt, states=cache, workers=1):
            done.append(result)

    with pytest.raises(KeyboardInterrupt):
        take()
    assert [result.task for result in done] == tasks[:1]
    assert [path.name for path in cache.folder.iterdir()] == [f"{attack.key(score, tasks[1])}.pt"]


class Brightness:
    """A score without prompts, embedding, resampler or another precision: how bright a picture is."""

    info = ScoreInfo("brightness", scale=1.0, floor=0.0, prompts="none")
    model, device, parameter_count, fingerprint = "none", torch.device("cpu"), 0, "brightness"

    def __init__(self, prompts: Literal["required", "none"] = "none") -> None:
        self.info = replace(self.info, prompts=prompts)

    @property
    def preprocess(self) -> "Brightness":
        return self

    size = (16, 16)

    def image(self, picture: Image.Image) -> Tensor:
        return to_tensor(picture.resize(self.size[::-1], Image.Resampling.BOX))

    def pixels(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, self.size)

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        return slice(0, height), slice(0, width)

    def resampler(self, height: int, width: int) -> None:
        return None

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([len(prompt) / 10 for prompt in prompts])

    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        assert isinstance(pixels, Tensor)
        assert isinstance(targets, Tensor)
        values = pixels if pixels.is_floating_point() else pixels / 255
        mean = values.mean(dim=(1, 2, 3))[:, None]
        return mean * targets if self.info.prompts == "required" else mean


@pytest.mark.parametrize("prompts", [(), ("short", "a longer one")])
@pytest.mark.parametrize("mask", ["none", "visible"])
def test_any_scorer_can_be_attacked(pictures: list[Tensor], prompts: tuple[str, ...], mask: str) -> None:
    scorer: Scorer = Brightness("required" if prompts else "none")
    attack = make_plan(FoCLIP, steps=8, budgets="psnr:30", mask=mask)
    for fooled in run([AttackTask(picture, prompts) for picture in pictures[:2]], scorer, attack):
        assert max(fooled.scores) > fooled.scores[0] + 0.01
        assert fidelity(fooled.pixels, fooled.task.picture).psnr >= 30
    aimed = attack.replace(rise=0.005, steps=50)
    (fooled,) = run([AttackTask(pictures[0], prompts)], scorer, aimed)
    assert fooled.stopped_by == "target"


@pytest.mark.parametrize("setting", [{"precision": "bfloat16"}, {"compiled": True}])
def test_a_plain_scorer_refuses_another_precision(pictures: list[Tensor], setting: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="precision: brightness computes in float32") as caught:
        list(run([AttackTask(pictures[0], ())], Brightness(), make_plan(FoCLIP, steps=1, **setting)))
    assert "\n" not in str(caught.value)
