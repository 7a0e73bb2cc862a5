"""An attack in pieces: how a picture moves, what it must keep to, when it ends, and how it is run."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from foclip.attacks.base import Attack
from foclip.attacks.constraint import Constraint, Stopping
from foclip.attacks.foclip import FoCLIP, objective
from foclip.attacks.state import AttackTask
from foclip.cache import Cache
from foclip.errors import UsageError
from foclip.models.batching import pass_rows
from foclip.models.precision import Precision, faster_precision
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.objective import check_kind
from foclip.perceptual.budget import BOUNDS, Budget, parse

#: What pictures keep to unless told otherwise: changes that are not noticed.
UNNOTICED = (parse("invisible"),)
#: Settings of FoCLIP's objective.
WEIGHTS = ("alpha", "beta", "balance", "guard")
#: Slots of a batch unless given (small towers on a CPU, and GPUs, are faster with several pictures), and at most.
SLOTS, MOST_SLOTS = 4, 4096


@dataclass(frozen=True)
class Execution:
    """How an attack is run.

    Attributes:
        batch_size: Slots: the number of pictures that go through the model together. The batch size is fixed. If fewer
            pictures than slots are left, the batch is padded. None chooses by the score, and 1 for one picture alone.
        precision: What the model computes in during the attack. Files are always read in float32.
        compiled: Whether `torch.compile` makes the model faster during the attack; where it cannot, a `CompileWarning`
            says so. On a GPU it uses CUDA graphs.
        workers: Batches at once, each on a thread of its own; None chooses by the score. Results do not depend on it.

    Raises:
        UsageError: A value is out of its range.
    """

    batch_size: int | None = None
    precision: Precision = "float32"
    compiled: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and not 1 <= self.batch_size <= MOST_SLOTS:
            raise UsageError(f"batch_size: {self.batch_size} is no number of pictures from 1 to {MOST_SLOTS}")
        check_kind("precision", self.precision, Precision)
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers: {self.workers} is no number of batches from 1 up")

    def slots(self, scorer: Scorer) -> int:
        """Pictures that go through the model together."""
        return self.batch_size or pass_rows(scorer, SLOTS, 1)

    def batches(self, scorer: Scorer) -> int:
        """Batches at once: one per core where a model is too small to use a second core, else one."""
        return self.workers or torch.get_num_threads() // threads_per_batch(scorer)

    def prepared(self, scorer: Scorer) -> Scorer:
        """The scorer in the precision of the attack, compiled or not.

        Raises:
            UsageError: The scorer computes in float32 only.
        """
        if self.precision == "float32" and not self.compiled:
            return scorer
        view: Any = getattr(scorer, "in_precision", None)
        if view is None:
            raise UsageError(f"precision: {scorer.info.name} computes in float32, uncompiled; leave both options out")
        found: Scorer = view(None if self.precision == "float32" else torch.bfloat16, self.compiled)
        return found


def threads_per_batch(scorer: Scorer) -> int:
    """Threads of a pass, however many batches there are at once: another number of threads rounds differently."""
    return 1 if pass_rows(scorer, SLOTS, 1) > 1 and scorer.device.type == "cpu" else torch.get_num_threads()


def fastest_precision(execution: Execution, scorer: EmbeddingScorer) -> tuple[Precision, float]:
    """The faster precision on this device, and how many times as fast bfloat16 is as float32.

    It is measured, since no name of a device tells it: processors without instructions for bfloat16 are many times
    slower in it. A forward and backward pass of the image tower is timed, as the attack runs it.
    """
    size = scorer.preprocess.size
    inputs = torch.zeros(execution.slots(scorer), 3, *size, device=scorer.device, requires_grad=True)

    def run(dtype: torch.dtype | None) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            embeddings = scorer.in_precision(dtype, execution.compiled).embed(inputs)
            return torch.autograd.grad(embeddings[:, 0].sum(), inputs)[0]

    return faster_precision(run)


@dataclass(frozen=True)
class AttackPlan:
    """Everything that says what is done to a picture.

    Raises:
        UsageError: A start from noise is to keep to a budget or a mask, or a method that needs a budget has none.
    """

    method: Attack  #: How a picture moves.
    constraint: Constraint = field(default_factory=Constraint)  #: What it must keep to.
    stopping: Stopping = field(default_factory=Stopping)  #: When the attack ends.
    execution: Execution = field(default_factory=Execution)  #: How it is run.

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
        """This plan with other settings, by their names in `config`, as for `make_plan`."""
        return _composed((self.method, self.constraint, self.stopping, self.execution), settings)

    def sized(self, pictures: int) -> "AttackPlan":
        """This plan for so many pictures: one alone has one slot, and does not pay for others that stay empty."""
        return self.replace(batch_size=1) if pictures == 1 and self.execution.batch_size is None else self

    def config(self) -> dict[str, Any]:
        """Every setting that a result depends on as plain JSON values, to write beside it."""
        method = self.method
        return {
            "attack": method.name,
            "objective": str(method.objective),
            **vars(self.stopping),
            "budgets": [str(budget) for budget in self.constraint.budgets],
            "mask": self.constraint.mask,
            "init": method.init,
            "seed": method.seed,
            "batch_size": self.execution.batch_size,
            "precision": self.execution.precision,
            "compiled": self.execution.compiled,
            "views": [repr(view) for view in method.views],
            **{f.name: getattr(method, f.name) for f in fields(method) if f.name not in Attack.__dataclass_fields__},
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
        target, most = self.stopping.target, scorer.info.scale * scorer.info.highest
        if target is not None and target > most:
            raise UsageError(f"target: {target:g} is above {most:g}, the most that {scorer.info.name} can be")
        self.execution.prepared(scorer)


def make_plan(method: type[Attack] | Attack = FoCLIP, **settings: Any) -> AttackPlan:
    """A plan from settings of all its pieces. Budgets may be written "invisible" or "flip99:0.2"; without, no mask.

    Raises:
        UsageError: There is no such setting, or a value is unusable.
    """
    chosen = method() if isinstance(method, type) else method
    return _composed((chosen, Constraint(), Stopping(), Execution()), settings)


def default_plan(scorer: Scorer, method: type[Attack] = FoCLIP, **settings: Any) -> AttackPlan:
    """What is done to pictures unless told otherwise: FoCLIP, where and as far as it is not noticed.

    Settings are as for `make_plan`. `alpha`, `beta`, `balance` and `guard` set FoCLIP's objective for this scorer.
    `min_psnr` is a budget on PSNR in other words: alone, it is the paper's, without a mask; 0 is no budget at all.

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
        low, high, _ = BOUNDS["psnr"]
        if not low < min_psnr < high:
            raise UsageError(f"min_psnr: {min_psnr:g} dB is not between {low:g} and {high:g}")
        budgets = (Budget("psnr", min_psnr), *budgets)
    if budgets:
        settings.setdefault("init", "image")
    return make_plan(method, budgets=budgets, **settings)


def _composed(pieces: tuple[Attack, Constraint, Stopping, Execution], settings: dict[str, Any]) -> AttackPlan:
    """The plan of these pieces, each with those of the settings that are its own."""
    left = dict(settings)
    if "budgets" in left:
        left["budgets"] = _budgets(left["budgets"])
    made: list[Any] = []
    for piece in pieces:
        own = {f.name: left.pop(f.name) for f in fields(piece) if f.name in left}
        made.append(replace(piece, **own))
    if foreign := ", ".join(f"--{name.replace('_', '-')}" for name in sorted(left)):
        raise UsageError(f"--attack {pieces[0].name} has no {foreign}")
    return AttackPlan(*made)


def _budgets(given: str | Budget | Iterable[str | Budget] | None) -> tuple[Budget, ...]:
    each = [given] if isinstance(given, str | Budget) else given or ()
    return tuple(parse(budget) if isinstance(budget, str) else budget for budget in each)
