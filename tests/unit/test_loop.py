import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import file_score, fooled_by
from PIL import Image
from torch import Tensor

from foclip.attacks import AttackResult, AttackState, AttackTask, FoCLIP, key, lanes, objective, run
from foclip.cache import Cache
from foclip.data.images import to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.scores import CLIPScore
from foclip.perceptual.fidelity import fidelity


@pytest.fixture(scope="module")
def pictures(small_photos: list[Image.Image]) -> list[Tensor]:
    return [to_tensor(picture) for picture in small_photos]


def test_scores_rise_within_the_budget(score: CLIPScore, pictures: list[Tensor]) -> None:
    results = fooled_by(FoCLIP(objective=objective(), steps=60, min_psnr=35.0), score, pictures, ARTWORKS)
    assert [fooled.job.tag for fooled in results] == list(range(len(pictures)))
    for fooled, original in zip(results, pictures, strict=True):
        before, after = (file_score(score, x, ARTWORKS) for x in (original, fooled.pixels))
        assert after > max(1.427 * before, before + 0.1)
        assert fidelity(fooled.pixels, original).psnr >= 35.0
        assert fooled.pixels.dtype == torch.uint8
        assert fooled.steps == 60
        assert len(fooled.scores) == 61
        # the loop sees what the file will score
        assert fooled.scores[0] == pytest.approx(before, abs=0.01)
        assert max(fooled.scores) == pytest.approx(after, abs=0.01)


@pytest.mark.parametrize("min_psnr", [20.0, 45.0, 58.0, 80.0])
def test_no_budget_is_ever_violated(score: CLIPScore, pictures: list[Tensor], min_psnr: float) -> None:
    attack = FoCLIP(objective=objective(), steps=8, min_psnr=min_psnr)
    for fooled, original in zip(fooled_by(attack, score, pictures[:2], ARTWORKS), pictures, strict=False):
        assert fidelity(fooled.pixels, original).psnr >= min_psnr


def test_batch_mates_do_not_matter(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack = FoCLIP(objective=objective(), steps=25, min_psnr=35.0)
    together = fooled_by(attack, score, pictures, ARTWORKS)
    backwards = fooled_by(attack, score, pictures[::-1], ARTWORKS)[::-1]
    alone = [fooled_by(attack, score, [picture], ARTWORKS)[0] for picture in pictures]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.pixels, c.pixels)
        assert a.scores == b.scores == c.scores


def test_a_seed_repeats_exactly(score: CLIPScore, pictures: list[Tensor]) -> None:
    def noise(seed: int) -> list[AttackResult]:
        attack = FoCLIP(objective=objective(), steps=5, init="noise", seed=seed)
        return fooled_by(attack, score, pictures[:2], ARTWORKS)

    first, again, other = noise(1), noise(1), noise(2)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].pixels, other[0].pixels)
    assert not torch.equal(first[0].pixels[:, :150, :150], first[1].pixels[:, :150, :150])
    assert fidelity(first[0].pixels, pictures[0]).psnr < 15  # it really started from noise


def test_stops_at_the_target_of_the_file(score: CLIPScore, pictures: list[Tensor]) -> None:
    target = file_score(score, pictures[0], ARTWORKS) + 0.2
    (fooled,) = fooled_by(FoCLIP(objective=objective(), steps=500, target=target), score, pictures[:1], ARTWORKS)
    assert fooled.stopped_by == "target"
    assert fooled.steps < 500
    assert file_score(score, fooled.pixels, ARTWORKS) >= target
    (done,) = fooled_by(FoCLIP(steps=5, target=0.0), score, pictures[:1], ARTWORKS)
    assert done.steps == 0
    assert torch.equal(done.pixels, pictures[0])


def test_prompts_of_their_own(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack = FoCLIP(objective=objective(), steps=20, min_psnr=35.0)
    jobs = [AttackTask(pictures[0], ARTWORKS[:1], 0), AttackTask(pictures[1], ARTWORKS[3:], 1)]
    mixed = sorted(run(attack, score, jobs), key=lambda fooled: int(fooled.job.tag))
    assert torch.equal(mixed[1].pixels, fooled_by(attack, score, pictures[1:2], ARTWORKS[3:])[0].pixels)
    before, after = (file_score(score, pixels, ARTWORKS[:1]) for pixels in (pictures[0], mixed[0].pixels))
    assert after > before


def test_literal_learning_rate_is_plain_sgd(mini: Encoder, score: CLIPScore, pictures: list[Tensor]) -> None:
    """One step by hand: x - lr · gradient."""
    attack = FoCLIP(objective=objective(beta=0.0), steps=1, lr=7.0, momentum=0.5, batch_size=1)
    seen: list[Tensor] = []
    list(run(attack, score, [AttackTask(pictures[0], ARTWORKS)], lambda lanes: seen.append(lanes[0].pixels.clone())))
    x = (pictures[0] / 255).requires_grad_(True)
    cosine = mini.encode_pixels([x]) @ mini.encode_texts(ARTWORKS).T
    loss = -cosine.mean() + cosine.var(correction=0)
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.allclose(seen[0], x - 7.0 * gradient, atol=1e-6)


def test_a_resumed_run_ends_where_an_undisturbed_one_does(
    score: CLIPScore, pictures: list[Tensor], tmp_path: Path
) -> None:
    attack, store = FoCLIP(objective=objective(), steps=30, min_psnr=35.0), Cache(tmp_path / "store")
    jobs = [AttackTask(picture, ARTWORKS, number) for number, picture in enumerate(pictures[:2])]
    undisturbed = fooled_by(attack, score, pictures[:2], ARTWORKS)

    def interrupt(lanes: Sequence[AttackState]) -> None:
        if lanes[0].step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(attack, score, jobs, interrupt, store))
    kept = {path.name for path in store.folder.iterdir()}
    assert kept == {f"{key(attack, score, job)}.pt" for job in jobs}
    steps: list[int] = []
    resumed = sorted(
        run(attack, score, jobs, lambda lanes: steps.append(lanes[0].step), store),
        key=lambda fooled: int(fooled.job.tag),
    )
    assert steps[0] == 14
    for a, b in zip(undisturbed, resumed, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert a.scores == b.scores


def test_what_was_begun_under_other_settings_is_not_continued(
    score: CLIPScore, pictures: list[Tensor], tmp_path: Path
) -> None:
    def interrupt(lanes: Sequence[AttackState]) -> None:
        if lanes[0].step == 2:
            raise KeyboardInterrupt

    attack, job, store = FoCLIP(steps=4, min_psnr=35.0), AttackTask(pictures[0], ARTWORKS), Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(run(attack, score, [job], interrupt, store))
    others = [
        (FoCLIP(steps=4, min_psnr=36.0), job),
        (FoCLIP(steps=4, min_psnr=35.0, batch_size=1), job),
        (attack, AttackTask(pictures[0], ARTWORKS[:1])),
        (attack, AttackTask(pictures[1], ARTWORKS)),
    ]
    for other, its_job in others:
        steps: list[int] = []
        list(run(other, score, [its_job], lambda lanes, seen=steps: seen.append(lanes[0].step), store))  # type: ignore[misc]
        assert steps[0] == 1


def test_a_broken_state_starts_over(score: CLIPScore, pictures: list[Tensor], tmp_path: Path) -> None:
    attack, job, store = FoCLIP(steps=3, min_psnr=35.0), AttackTask(pictures[0], ARTWORKS), Cache(tmp_path)
    (first,) = run(attack, score, [job])
    store.path(key(attack, score, job), ".pt").write_bytes(b"cut off")
    (second,) = run(attack, score, [job], store=store)
    assert torch.equal(first.pixels, second.pixels)


def test_the_key_is_everything_a_result_depends_on_and_nothing_else(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack, job = FoCLIP(steps=3), AttackTask(pictures[0], ARTWORKS)
    same = [
        key(attack, score, job),
        key(attack, score, AttackTask(pictures[0].clone(), ARTWORKS, "another tag")),
        key(FoCLIP(steps=3, batch_size=lanes(attack, score)), score, job),
        key(attack, CLIPScore(score.encoder), job),
    ]
    assert len(set(same)) == 1
    different = [
        same[0],
        key(FoCLIP(steps=4), score, job),
        key(FoCLIP(steps=3, batch_size=1), score, job),
        key(FoCLIP(steps=3, seed=1), score, job),
        key(attack, score, AttackTask(pictures[1], ARTWORKS)),
        key(attack, score, AttackTask(pictures[0].flip(2), ARTWORKS)),
        key(attack, score, AttackTask(pictures[0], ARTWORKS[::-1])),
        key(FoCLIP(steps=3, target=1.0), CLIPScore(score.encoder), job),
    ]
    assert len(set(different)) == len(different)
    # A target is a figure, so the scale decides where an attack ends.
    aimed = FoCLIP(steps=3, target=1.0)
    assert key(aimed, score, job) != key(aimed, CLIPScore(score.encoder, 100), job)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"lr": "fast"},
        {"momentum": 1.0},
        {"min_psnr": -3.0},
        {"min_psnr": math.nan},
        {"min_psnr": 35.0, "init": "noise"},
        {"init": "x"},
        {"batch_size": 0},
    ],
)
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        FoCLIP(**settings)  # type: ignore[arg-type]
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
def test_a_job_is_a_picture_of_levels(picture: Tensor) -> None:
    with pytest.raises(UsageError, match=r"picture: .* is not uint8 \(3, H, W\)"):
        AttackTask(picture, ("a cat",))


@pytest.mark.parametrize("prompts", [(), [], "a cat", (7,), None])
def test_a_job_has_prompts(prompts: object) -> None:
    with pytest.raises(UsageError, match="prompts: give a list"):
        AttackTask(torch.zeros(3, 8, 8, dtype=torch.uint8), prompts)  # type: ignore[arg-type]


def test_no_jobs_are_no_work(score: CLIPScore) -> None:
    assert list(run(FoCLIP(steps=3), score, [])) == []


def test_pictures_may_end_in_any_order(score: CLIPScore, pictures: list[Tensor]) -> None:
    """The last of three lanes is at its target from the start and leaves first."""
    before = {number: file_score(score, pictures[number], ARTWORKS) for number in range(3)}
    order = sorted(before, key=before.__getitem__)
    attack = FoCLIP(objective=objective(), steps=8, target=max(before.values()), min_psnr=35.0)
    found = list(run(attack, score, [AttackTask(pictures[number], ARTWORKS, number) for number in order]))
    assert sorted(fooled.job.tag for fooled in found) == [0, 1, 2]
    assert found[0].job.tag == order[-1]
    assert found[0].steps == 0
