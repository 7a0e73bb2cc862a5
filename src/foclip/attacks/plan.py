"""An attack in pieces: how a picture moves, what it must keep to, when it ends, and how it is run."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from foclip.attacks.base import Attack
from foclip.attacks.constraint import Constraint
from foclip.attacks.execution import Execution
from foclip.attacks.foclip import FoCLIP, objective
from foclip.attacks.stopping import Stopping
from foclip.attacks.task import AttackTask
from foclip.cache import Cache
from foclip.errors import UsageError
from foclip.models.scorer import Scorer
from foclip.perceptual.budget import Budget, parse

#: What nobody notices, and what pictures keep to unless told otherwise: FLIP's worst places stay below 0.2.
UNNOTICED = (Budget("flip99", 0.2),)
#: Settings of FoCLIP's objective.
WEIGHTS = ("alpha", "beta", "balance", "guard")


@dataclass(frozen=True)
class AttackPlan:
    """Everything that says what is done to a picture.

    Attributes:
        method: How a picture moves.
        constraint: What it must keep to.
        stopping: When the attack ends.
        execution: How it is run.

    Raises:
        UsageError: A start from noise is to keep to a budget or a mask, or a method that needs a budget has none.
    """

    method: Attack
    constraint: Constraint = field(default_factory=Constraint)
    stopping: Stopping = field(default_factory=Stopping)
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        if self.stopping.steps is None:
            object.__setattr__(self, "stopping", replace(self.stopping, steps=self.method.default_steps))
        if self.method.init == "noise":
            for name, given in (("budget", self.constraint.budgets), ("mask", self.constraint.mask != "none")):
                if given:
                    raise UsageError(f"{name}: a start from noise has no original to stay close to; leave it out")
        if self.method.needs_budget and not self.constraint.budgets:
            raise UsageError(f"budget: {self.method.name} needs one")

    @property
    def steps(self) -> int:
        """Most updates per picture."""
        return self.stopping.steps or 0

    def replace(self, **settings: Any) -> "AttackPlan":
        """This plan with other settings, by the names that `config` has; budgets may be written "flip99:0.2".

        Raises:
            UsageError: There is no such setting, or a value is unusable.
        """
        return _composed((self.method, self.constraint, self.stopping, self.execution), settings)

    def config(self) -> dict[str, Any]:
        """Every setting that a result depends on as plain JSON values, to write beside it."""
        method, constraint, execution = self.method, self.constraint, self.execution
        return {
            "attack": method.name,
            "objective": str(method.objective),
            **vars(self.stopping),
            "budgets": [str(budget) for budget in constraint.budgets],
            "mask": constraint.mask,
            "init": method.init,
            "seed": method.seed,
            "batch_size": execution.batch_size,
            "precision": execution.precision,
            "compiled": execution.compiled,
            "views": [repr(view) for view in method.views],
            **method.options(),
        }

    def key(self, scorer: Scorer, task: AttackTask) -> str:
        """Name of a piece of work: everything its result depends on, and nothing else."""
        execution = replace(self.execution, batch_size=self.execution.slots(scorer), workers=None)
        model = (scorer.fingerprint, scorer.info.scale, scorer.device.type)
        return Cache.key("fooled", task.digest().hexdigest(), task.prompts, replace(self, execution=execution), *model)

    def check(self, scorer: Scorer) -> None:
        """Refuse a plan that cannot be followed with this scorer.

        Raises:
            UsageError: Its target is above the highest figure, or the scorer computes in float32 only.
        """
        target, scale = self.stopping.target, scorer.info.scale
        if target is not None and target > scale:
            raise UsageError(f"target: {target:g} is above {scale:g}, the most that {scorer.info.name} can be")
        self.execution.prepared(scorer)


def make_plan(method: type[Attack] | Attack = FoCLIP, **settings: Any) -> AttackPlan:
    """A plan from settings of all its pieces.

    Args:
        method: The method, or its class.
        settings: As for `AttackPlan.replace`. Without any there is no budget and no mask.

    Raises:
        UsageError: There is no such setting, or a value is unusable.
    """
    chosen = method() if isinstance(method, type) else method
    return _composed((chosen, Constraint(), Stopping(), Execution()), settings)


def default_plan(scorer: Scorer, method: type[Attack] = FoCLIP, **settings: Any) -> AttackPlan:
    """What is done to pictures unless told otherwise: FoCLIP, where and as far as nobody notices.

    Args:
        scorer: The score to fool.
        method: Another method.
        settings: As for `make_plan`. `alpha`, `beta`, `balance` and `guard` set FoCLIP's objective. `min_psnr` is
            another way to write a budget on PSNR: alone, it is the paper's, without a mask; 0 is no budget at all.

    Raises:
        UsageError: There is no such setting, or a value is unusable.
    """
    if method is FoCLIP and "objective" not in settings:
        weights = {name: settings.pop(name) for name in WEIGHTS if name in settings}
        settings["objective"] = objective(**weights, temperature=scorer.info.temperature)
    min_psnr, budgets = settings.pop("min_psnr", None), _budgets(settings.pop("budgets", None))
    if min_psnr is None and not budgets and settings.get("init") != "noise":
        budgets = UNNOTICED
    if budgets:
        settings.setdefault("mask", "visible")
    if min_psnr:
        budgets = (Budget("psnr", min_psnr), *budgets)
    if budgets:
        settings.setdefault("init", "image")
    return make_plan(method, budgets=budgets, **settings)


def check_settings(method: type[Attack], names: Iterable[str]) -> None:
    """Refuse settings that `default_plan` does not have with this method.

    Raises:
        UsageError: There is such a one.
    """
    own = {f.name for kind in (method, Constraint, Stopping, Execution) for f in fields(kind)} | {"min_psnr"}
    _refuse(method.name, set(names) - own - set(WEIGHTS if method is FoCLIP else ()))


def _refuse(method: str, foreign: Iterable[str]) -> None:
    if names := ", ".join(f"--{name.replace('_', '-')}" for name in sorted(foreign)):
        raise UsageError(f"--attack {method} has no {names}")


def _composed(pieces: tuple[Attack, Constraint, Stopping, Execution], settings: dict[str, Any]) -> AttackPlan:
    """The plan of these pieces, each with those of the settings that are its own."""
    left = dict(settings)
    if "budgets" in left:
        left["budgets"] = _budgets(left["budgets"])
    made: list[Any] = []
    for piece in pieces:
        own = {f.name: left.pop(f.name) for f in fields(piece) if f.name in left}
        made.append(replace(piece, **own))
    _refuse(pieces[0].name, left)
    return AttackPlan(*made)


def _budgets(given: str | Budget | Iterable[str | Budget] | None) -> tuple[Budget, ...]:
    if given is None:
        return ()
    each = [given] if isinstance(given, str | Budget) else given
    return tuple(parse(budget) if isinstance(budget, str) else budget for budget in each)
