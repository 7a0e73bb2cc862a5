"""Attacks in pieces: settings find the piece they belong to, and the default is one."""

import pickle
from dataclasses import fields, replace

import pytest
import torch

from foclip.attacks import (
    ATTACKS,
    PGD,
    UNNOTICED,
    Adam,
    AttackPlan,
    AttackTask,
    Constraint,
    Execution,
    FoCLIP,
    Restart,
    Stopping,
    default_plan,
    make_plan,
    objective,
)
from foclip.attacks.constraint import TOLERANCE
from foclip.errors import UsageError
from foclip.models.scores import CLIPScore
from foclip.perceptual.budget import Budget


def test_settings_find_their_piece() -> None:
    plan = make_plan(FoCLIP, lr=7.0, seed=3, steps=9, target=0.5, budgets="psnr:35", mask="visible", batch_size=2)
    assert plan == AttackPlan(
        FoCLIP(lr=7.0, seed=3),
        Constraint((Budget("psnr", 35.0),), "visible"),
        Stopping(9, target=0.5),
        Execution(batch_size=2),
    )
    assert plan.replace(steps=4, lr="auto").replace(steps=9, lr=7.0) == plan
    assert plan.replace(budgets=["flip99:0.2", Budget("ssim", 0.9)]).config()["budgets"] == ["flip99:0.2", "ssim:0.9"]
    assert plan.replace(budgets=None).constraint.budgets == ()


def test_no_setting_belongs_to_two_pieces() -> None:
    pieces = (Constraint, Stopping, Execution)
    for method in (*ATTACKS.values(), Restart):
        names = [f.name for kind in (method, *pieces) for f in fields(kind)]  # type: ignore[arg-type]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("method", ATTACKS.values(), ids=ATTACKS)
def test_a_plan_says_all_that_it_is(method: type) -> None:
    plan = make_plan(method)
    names = ["attack", "objective", "steps", "target", "rise", "patience", "budgets", "mask", "init", "seed"]
    names += ["batch_size", "precision", "compiled", "views"]
    assert list(plan.config())[: len(names)] == names
    assert plan.config() == make_plan(method).config()
    assert plan.config()["attack"] == plan.method.name
    assert plan.steps == method.default_steps  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.parametrize("given", [{"block": 4}, {"min_psnr": 35.0}, {"lr": 7.0, "epsilon": 3}])
def test_a_setting_that_is_not_there_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--attack foclip has no --") as caught:
        make_plan(FoCLIP, **given)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="--attack pgd has no --alpha, --lr"):
        make_plan(PGD, lr=7.0, alpha=1.0, steps=3, epsilon=3)


def test_what_fool_does_unless_told_otherwise(score: CLIPScore) -> None:
    plan = default_plan(score)
    assert plan == make_plan(FoCLIP, objective=objective(), budgets=UNNOTICED, mask="visible")
    paper = default_plan(score, min_psnr=35.0)
    assert (paper.constraint.budgets, paper.constraint.mask) == ((Budget("psnr", 35.0),), "none")
    both = default_plan(score, min_psnr=35.0, budgets="ssim:0.9")
    assert (both.config()["budgets"], both.constraint.mask) == (["psnr:35", "ssim:0.9"], "visible")
    free = default_plan(score, Adam, min_psnr=0)
    assert (free.constraint, free.method.init) == (Constraint(), "noise")
    assert default_plan(score, Adam).method.init == "image"
    assert default_plan(score, init="noise").constraint == Constraint()
    assert default_plan(score, beta=0.5, guard="l2").method.objective == objective(beta=0.5, guard="l2")
    with pytest.raises(UsageError, match="--attack pgd has no --beta"):
        default_plan(score, PGD, beta=0.5)


def test_a_method_that_needs_a_budget_says_so() -> None:
    with pytest.raises(UsageError, match="budget: restart needs one"):
        make_plan(Restart)


def test_workers_are_no_part_of_the_key(score: CLIPScore) -> None:
    task, plan = AttackTask(torch.zeros(3, 8, 8, dtype=torch.uint8), ("a cat",)), make_plan(FoCLIP)
    assert plan.key(score, task) == plan.replace(workers=2).key(score, task)
    assert plan.key(score, task) != plan.replace(precision="bfloat16").key(score, task)


def test_a_target_within_rounding_is_reached() -> None:
    for scale in (1.0, 2.5, 100.0):
        stopping = Stopping(target=0.3 * scale)
        assert stopping.reached(0.3 * scale, 0.0, scale)
        assert stopping.reached(0.3 * scale * (1 - 1e-6), 0.0, scale)
        assert not stopping.reached(0.3 * scale - 2 * TOLERANCE * scale, 0.0, scale)
        assert replace(stopping, target=None, rise=0.1 * scale).reached(0.3 * scale, 0.2 * scale, scale)
    assert not Stopping().reached(100.0, 0.0, 1.0)


def test_an_attack_stalls_when_its_objective_does() -> None:
    stopping = Stopping(patience=3)
    assert not stopping.stalled([1.0, 1.0, 1.0])
    assert stopping.stalled([1.0, 1.0, 1.0, 1.0])
    assert not stopping.stalled([1.0, 1.0, 0.9, 1.0])
    assert not Stopping().stalled([1.0] * 100)
