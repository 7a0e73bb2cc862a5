"""Every registered attack method keeps what `foclip.attacks.base.Attack` promises, on any score."""

import json
import pickle

import pytest
import torch
from PIL import Image

from foclip.attacks import ATTACKS, NAMES, Attack, AttackPlan, AttackResult, AttackTask, default_plan, run
from foclip.data.images import to_tensor
from foclip.errors import UsageError
from foclip.models import Scorer, load
from foclip.perceptual.fidelity import psnr

PSNR, STEPS = 32.0, 6


@pytest.fixture(scope="module", params=["toy", "toy-taste"])
def scorer(request: pytest.FixtureRequest, toys: None) -> Scorer:
    return load(request.param)


@pytest.fixture(params=sorted(NAMES))
def method(request: pytest.FixtureRequest) -> type[Attack]:
    return ATTACKS[request.param]


@pytest.fixture
def plan(method: type[Attack], scorer: Scorer) -> AttackPlan:
    return default_plan(scorer, method, steps=STEPS, min_psnr=PSNR)


@pytest.fixture
def tasks(scorer: Scorer, small_photos: list[Image.Image]) -> list[AttackTask]:
    prompts = () if scorer.info.prompts == "none" else ("a cat", "a dog on grass")
    return [AttackTask(to_tensor(photo), prompts, number) for number, photo in enumerate(small_photos[:2])]


def results(tasks: list[AttackTask], scorer: Scorer, plan: AttackPlan) -> list[AttackResult]:
    return sorted(run(tasks, scorer, plan), key=lambda result: result.task.tag)


def test_the_written_picture_keeps_to_the_budget_and_scores_no_less(
    tasks: list[AttackTask], scorer: Scorer, plan: AttackPlan
) -> None:
    for task, result in zip(tasks, results(tasks, scorer, plan), strict=True):
        assert result.task is task
        assert result.pixels.dtype == torch.uint8
        assert result.pixels.shape == task.picture.shape
        found = psnr(result.pixels, task.picture)
        assert found is None or found >= PSNR
        assert max(result.scores) >= result.scores[0]
        assert len(result.scores) == result.steps + 1


@pytest.mark.exact
def test_it_repeats_itself_whatever_is_beside_it(tasks: list[AttackTask], scorer: Scorer, plan: AttackPlan) -> None:
    together, alone = results(tasks, scorer, plan), results(tasks[1:], scorer, plan)
    assert torch.equal(together[1].pixels, alone[0].pixels)
    assert together[1].scores == alone[0].scores


def test_no_step_leaves_the_picture(tasks: list[AttackTask], scorer: Scorer, plan: AttackPlan) -> None:
    (result,) = results(tasks[:1], scorer, plan.replace(steps=0))
    assert torch.equal(result.pixels, tasks[0].picture)


def test_its_settings_are_plain_and_name_its_work(
    tasks: list[AttackTask], scorer: Scorer, plan: AttackPlan, method: type[Attack]
) -> None:
    config = json.loads(json.dumps(plan.config()))
    assert config["attack"] == method.name
    assert (config["steps"], config["budgets"]) == (STEPS, [f"psnr:{PSNR:g}"])
    assert pickle.loads(pickle.dumps(plan)) == plan
    key = plan.key(scorer, tasks[0])
    assert key == plan.replace(workers=2).key(scorer, tasks[0])
    others = [plan.replace(steps=STEPS + 1), plan.replace(budgets="psnr:33")]
    assert len({key, plan.key(scorer, tasks[1]), *(other.key(scorer, tasks[0]) for other in others)}) == 4


def test_settings_that_it_does_not_have_are_refused(scorer: Scorer, method: type[Attack]) -> None:
    with pytest.raises(UsageError, match="nosuch"):
        default_plan(scorer, method, nosuch=1)
    with pytest.raises(UsageError, match="steps"):
        default_plan(scorer, method, steps=-1)
