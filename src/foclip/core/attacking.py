"""Attacks on a stream of pictures, in memory: no files are written, and nothing is shared between streams."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from foclip.attacks import Attack, AttackPlan, AttackResult, AttackTask, Constraint, Execution, Stopping, default_plan
from foclip.attacks.loop import StepCallback, bytes_needed, run
from foclip.cache import Cache
from foclip.core.scoring import with_prompts
from foclip.data.images import to_image, to_tensor
from foclip.data.samples import Sample
from foclip.errors import ImageError
from foclip.machine import available_memory
from foclip.models.scorer import Scorer
from foclip.outcome import Failure


@dataclass(frozen=True, eq=False)
class Attacked(AttackResult):
    """A picture that was attacked: the sample, and the result of its attack."""

    sample: Sample

    @property
    def original(self) -> Tensor:
        """The sample's picture, uint8 (3, H, W), RGB."""
        return self.task.picture

    @property
    def curve(self) -> list[float]:
        """Mean score of the 8-bit iterate over the prompts, at every step."""
        return self.scores

    @property
    def image(self) -> Image.Image:
        """The fooled picture."""
        return to_image(self.pixels)


def attack(
    samples: Iterable[Sample | Failure],
    scorer: Scorer,
    method: Attack | None = None,
    constraint: Constraint | None = None,
    stop: Stopping | None = None,
    *,
    execution: Execution | None = None,
    on_step: StepCallback | None = None,
) -> Generator[Attacked | Failure, None, None]:
    """Fool pictures: raise their scores for all their prompts, within a constraint.

    Closing the generator, or an exception in `on_step`, ends the attack within a step and leaves no thread.

    Args:
        samples: Read one by one as slots get free. Failures among them are passed on.
        scorer: The score to raise.
        method: How a picture moves; None for FoCLIP.
        constraint: What the picture must keep to; None for changes that are not noticed
            (`foclip.attacks.plan.UNNOTICED`), or for nothing if the method starts from noise.
        stop: When the attack ends; None for the method's own number of steps.
        execution: How many pictures at once, and in which precision; None for what suits the scorer. Of samples whose
            number is known to be one, one at once.
        on_step: Called after every step with the states of the pictures under attack; `state.preview()` is the picture
            as it would be written now, and `state.stop()` ends its attack.

    Yields:
        For each sample what became of it, or a failure, in the order in which they are done.

    Raises:
        UsageError: The pieces do not fit together, or the target is above the score's scale.
    """
    default = default_plan(scorer)
    chosen = method or default.method
    within = constraint or (Constraint() if chosen.init == "noise" else default.constraint)
    plan = AttackPlan(chosen, within, stop or Stopping(), execution or Execution())
    plan = plan.sized(len(samples)) if isinstance(samples, Sized) else plan
    yield from attack_with(plan, samples, scorer, on_step=on_step)


#: Attacks tasks as `foclip.attacks.loop.run` does: here, or on a cluster (`foclip.runs.fooling`).
RunAttack = Callable[..., Iterator[AttackResult]]


def attack_with(
    plan: AttackPlan,
    samples: Iterable[Sample | Failure],
    scorer: Scorer,
    *,
    on_step: StepCallback | None = None,
    states: Cache | None = None,
    pending: Callable[[Sample, AttackTask], bool] = lambda sample, task: True,
    run: RunAttack = run,
) -> Generator[Attacked | Failure, None, None]:
    """`attack` with a whole plan.

    The states of unfinished pictures are kept in `states`, for a later run. `pending` says of a picture that was read
    whether it is to be attacked; the others yield nothing. `run` runs the attack.
    """
    memory = available_memory(scorer.device)
    read: dict[AttackTask, Sample] = {}
    failures: list[Failure] = []

    def tasks() -> Iterator[AttackTask]:
        for sample in with_prompts(samples, scorer):
            if isinstance(sample, Failure):
                failures.append(sample)
                continue
            try:
                picture = sample.read()
                need = bytes_needed(plan, scorer, picture.width * picture.height)
                if need > memory:
                    wants = f"{picture.width}×{picture.height} pixels need about {need / 1e9:.1f} GB of memory"
                    raise ImageError(f"{sample.name}: {wants}, and {memory / 1e9:.1f} GB are free; scale it down")
            except ImageError as error:
                failures.append(Failure(sample.name, str(error)))
                continue
            task = AttackTask(to_tensor(picture), sample.prompts)
            if pending(sample, task):
                read[task] = sample
                yield task

    for result in run(tasks(), scorer, plan, on_step=on_step, states=states, memory=memory):
        yield from failures
        failures.clear()
        yield Attacked(**vars(result), sample=read.pop(result.task))
    yield from failures
