"""Drives every attack: tasks in, 8-bit pictures that score higher out.

A batch has a fixed number of slots; each carries one picture of any size from its first to its last step. The model
always sees a full batch, padded if need be, because kernels for another batch size round differently. So a picture's
result depends on the picture, its prompts, the plan with that number of slots, and the score, and on nothing else.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import groupby

import torch
from torch import Tensor

from foclip.attacks import refine
from foclip.attacks.cells import CellSpace
from foclip.attacks.plan import AttackPlan, threads_per_batch
from foclip.attacks.space import ModelSpace, PixelSpace
from foclip.attacks.state import AttackResult, AttackState, AttackTask
from foclip.cache import Cache
from foclip.errors import UsageError
from foclip.models.batching import TargetCache, figures, raw_scores
from foclip.models.preprocess import Resampler
from foclip.models.resize import round8
from foclip.models.scorer import Scorer
from foclip.models.surroundings import undisturbed

#: Full-size float32 copies of a picture that moves in all its pixels, at most (original, pixels, best, rounded,
#: gradient, scratch, the moments, what the resize keeps for its backward pass), and of one at the model's resolution
#: and in cells, most of whose copies are bytes; and what contrast keeps of an original, and takes while it is measured.
PIXEL_COPIES, MODEL_COPIES, CONTRAST_COPIES = 14, 8, 5
#: Seconds between two writes of unfinished work.
SAVE_EVERY = 30.0
#: Called after every step with the pictures under attack.
StepCallback = Callable[[Sequence[AttackState]], None]


def run(
    tasks: Iterable[AttackTask],
    scorer: Scorer,
    plan: AttackPlan,
    *,
    on_step: StepCallback | None = None,
    states: Cache | None = None,
    workers: int | None = None,
    memory: int | None = None,
) -> Generator[AttackResult, None, None]:
    """Attack pictures of any sizes. Closing the generator, or an exception in `on_step`, ends the attack.

    Args:
        tasks: Read one by one as slots get free.
        scorer: The score to fool.
        plan: The attack.
        on_step: Called after every step with the pictures under attack.
        states: Where unfinished pictures are kept, by `AttackPlan.key`, for a later run.
        workers: Batches at once, each on a thread of its own; None for the plan's. Results do not depend on it.
        memory: Bytes that pictures under attack may take together (`bytes_needed`), except for a picture alone.

    Yields:
        One result per task, in the order they finish.

    Raises:
        UsageError: The plan cannot be followed with this scorer, or it needs prompts and a task has none.
    """
    plan.check(scorer)
    slots, queue, targets = plan.execution.slots(scorer), iter(tasks), TargetCache(scorer)
    batches = workers or plan.execution.batches(scorer)
    step = partial(_step, plan=plan, scorer=scorer, model=plan.execution.prepared(scorer), slots=slots)
    active: list[AttackState] = []
    waiting: AttackTask | None = None
    need = cache(partial(bytes_needed, plan, scorer))

    def fits(task: AttackTask) -> bool:
        others = sum(need(state.task.pixels) for state in active)
        return memory is None or not active or others + need(task.pixels) <= memory

    saved, threads = time.monotonic(), threads_per_batch(scorer)
    try:
        with ThreadPoolExecutor(batches, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
            while True:
                while len(active) < batches * slots and (waiting := waiting or next(queue, None)) and fits(waiting):
                    active.append(_start(waiting, scorer, plan, targets, states))
                    active.sort(key=lambda state: len(state.task.prompts))
                    waiting = None
                if not active:
                    return
                list(pool.map(step, [active[i : i + slots] for i in range(0, len(active), slots)]))
                if on_step:
                    on_step(active)
                while result := _finished(active):
                    yield result
                if states and time.monotonic() - saved >= SAVE_EVERY:
                    _save(states, active)
                    saved = time.monotonic()
    except (KeyboardInterrupt, GeneratorExit):  # the pool has waited for the steps in it, so all states are whole
        if states:
            _save(states, active)
        raise


@undisturbed()
def _step(states: Sequence[AttackState], plan: AttackPlan, scorer: Scorer, model: Scorer, slots: int) -> None:
    """One step of a batch: score every 8-bit picture, keep the best, move those that are not done.

    `model` is the scorer in the precision of the attack; `slots` pictures go through it together.
    """
    started, method = time.perf_counter(), plan.method
    for state in states:
        if refine.is_due(state):
            refine.begin(state, plan)
        state.enforced = state.step == 0 or not state.constraint.measured
        if state.is_measured():
            state.enforce_budgets()
        elif state.step:
            state.space.begin_step(state.step, state.last - state.step)
    parameters = [state.space.pixels.requires_grad_(method.uses_gradient) for state in states]
    pictures = [state.space.picture(pixels) for state, pixels in zip(states, parameters, strict=True)]
    versions = [pictures, *([round8(view(picture[None]))[0] for picture in pictures] for view in method.views)]
    targets = [state.targets for state in states]
    inputs = ([model.preprocess.pixels(picture[None]) for picture in version] for version in versions)
    raw = [raw_scores(model, each, targets, slots) for each in inputs]
    losses, means = _evaluate(states, plan, scorer, raw)
    gradients: Sequence[Tensor] = [losses.new_zeros(())] * len(states)
    if method.uses_gradient:
        gradients = torch.autograd.grad(losses.sum(), parameters)
    with torch.no_grad():
        values = torch.stack([losses, means], dim=1).tolist()
        for state, picture, gradient, (loss, mean) in zip(states, pictures, gradients, values, strict=True):
            state.space.pixels.requires_grad_(False)
            state.record(picture, loss, mean, scorer)
            if not state.stopped_by:
                if state.refine:
                    state.refine(state, gradient)
                else:
                    method.update(state, state.space.pull(gradient) if method.uses_gradient else gradient)
                state.project()
                state.step += 1
    elapsed = (time.perf_counter() - started) / len(states)
    for state in states:
        state.seconds += elapsed


def _evaluate(
    states: Sequence[AttackState], plan: AttackPlan, scorer: Scorer, raw: Sequence[Sequence[Tensor]]
) -> tuple[Tensor, Tensor]:
    """Objective and mean figure of every picture, each (B,), from raw scores of the pictures, then of each view."""
    losses, means = [], []
    # States are sorted by their number of prompts; those with the same number share the small operations.
    for _, group in groupby(range(len(states)), key=lambda i: raw[0][i].shape[1]):
        places = list(group)
        own, *views = (torch.cat([scores[i] for i in places]) for scores in raw)
        scores = torch.stack([own, *views]).mean(dim=0) if views else own
        pixels, originals = zip(*[(states[i].space.pixels, states[i].space.original) for i in places], strict=True)
        losses.append(plan.method.objective(scores, pixels, originals))
        means.append(figures(scorer, own.detach()).mean(dim=1))
    return torch.cat(losses), torch.cat(means)


def _resampler(plan: AttackPlan, scorer: Scorer, height: int = 8, width: int = 8) -> Resampler | None:
    """R, if a picture of this size (by default, one that every model resizes) moves at the model's resolution."""
    # Noise and views have all pixels of a picture, or another size of it. Where nothing is resized, nothing is saved.
    method = plan.method
    if method.views or method.init == "noise" or not method.sums_gradients:
        return None
    resampler = scorer.preprocess.resampler(height, width)
    return resampler if resampler is not None and resampler.resizes else None


def bytes_needed(plan: AttackPlan, scorer: Scorer, pixels: int) -> int:
    """Bytes of memory that fooling a picture of so many pixels takes at most."""
    in_model_space = _resampler(plan, scorer) is not None
    in_cells = refine.planned_steps(plan) and not (in_model_space and refine.bounds_contrast(plan))
    copies = MODEL_COPIES if in_model_space else PIXEL_COPIES
    copies += CONTRAST_COPIES if refine.bounds_contrast(plan) else 0
    return copies * 4 * 3 * pixels + (refine.CELL_BYTES * min(pixels, refine.MOST_CELLS) if in_cells else 0)


@undisturbed()
def _start(
    task: AttackTask, scorer: Scorer, plan: AttackPlan, targets: TargetCache, states: Cache | None
) -> AttackState:
    if scorer.info.prompts == "required" and not task.prompts:
        raise UsageError("prompts: give a list of strings, at least one")
    key = plan.key(scorer, task)
    saved = states.load(key, scorer.device) if states else None
    refining = saved is not None and saved["refining"]
    seed = int.from_bytes(task.digest(plan.method.seed).digest()[:7], "big")
    state = AttackState(
        task=task,
        targets=targets(task.prompts),
        key=key,
        seed=seed,
        constraint=plan.constraint,
        stopping=plan.stopping,
        steps=plan.steps,
        refine_steps=refine.planned_steps(plan),
        space=_space(task, scorer, plan, seed, refining),
    )
    if saved is not None:
        state.restore(saved)
    if refining:
        state.refine = refine.Refinement(state.space, plan).update
    return state


def _space(task: AttackTask, scorer: Scorer, plan: AttackPlan, seed: int, refining: bool) -> PixelSpace:
    _, height, width = task.picture.shape
    picture, region = task.picture.to(scorer.device), scorer.preprocess.region(height, width)
    resampler, limit = _resampler(plan, scorer, height, width), plan.constraint.limit
    if resampler is None:
        space = PixelSpace(picture.float() / 255, region, limit)
    else:
        space = ModelSpace(picture, resampler, region, limit)
    if refining and not refine.stays(plan, space):
        return CellSpace(picture, picture, space, refine.MOST_CELLS)
    if plan.method.init == "noise":
        space.pixels = torch.rand(picture.shape, generator=torch.Generator().manual_seed(seed)).to(scorer.device)
    if plan.constraint.mask == "visible":
        space.use_mask()
    return space


def _save(states: Cache, active: Sequence[AttackState]) -> None:
    for state in active:
        states.save(state.key, state.saved())


def _finished(active: list[AttackState]) -> AttackResult | None:
    """The result of a picture that is done. Nothing else of it is kept, since callers measure what they get."""
    for place, state in enumerate(active):
        if state.stopped_by:
            return _result(active.pop(place))
    return None


def _result(state: AttackState) -> AttackResult:
    assert state.best is not None  # step 0 is within any budget, and later steps only improve on it
    best, budgets = state.best.cpu(), state.constraint.budgets
    nothing = state.step > 0 and bool(budgets) and torch.equal(best, state.task.picture.cpu())
    stopped_by = "budget" if nothing else state.stopped_by
    return AttackResult(state.task, best, state.scores, state.step, stopped_by, state.seconds)
