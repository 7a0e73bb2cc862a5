"""Drives every attack: jobs in, 8-bit pictures that score higher out.

A fixed number of lanes is in flight through the image tower; each carries one picture of any
size from its first to its last step, and the next picture takes over a lane that has finished. The
tower always sees a full batch, because kernels chosen for another batch size round
differently: so a picture's result depends on nothing but the picture, its prompts, the attack with that
number of lanes, and the score.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from foclip.attacks import refine
from foclip.attacks.base import TYPICAL_CHANGE, Attack
from foclip.attacks.enforce import fit, is_due
from foclip.attacks.model_space import in_small, small
from foclip.attacks.state import MOST_REACH, AttackState, AttackTask
from foclip.cache import Cache
from foclip.errors import UsageError
from foclip.models.legacy import passes_in
from foclip.models.preprocess import round8
from foclip.models.scores import Score

#: Pictures in flight by default: small towers on a CPU, and GPUs, are faster with several.
LANES = 4
#: Full-size float32 copies of a picture in flight at most, by the exact loop: original, pixels, best, rounded,
#: gradient, scratch, the moments, and what the resize keeps for its backward pass.
EXACT_COPIES = 14
#: The same in the model's small space, where pictures are kept as bytes, and for measuring what was written.
SMALL_COPIES = 8
#: What retouching adds to the exact loop: a mask of all pixels, momentum, and what is known of the original.
RETOUCH_COPIES = 12
#: Seconds between two writes of unfinished work.
SAVE_EVERY = 30.0

#: Called once a step with the pictures in flight.
StepCallback = Callable[[Sequence[AttackState]], None]


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The result for one picture.

    Attributes:
        job: What was asked.
        pixels: uint8 (3, H, W), the best iterate within the fidelity budget.
        scores: Mean figure of the 8-bit iterate over the prompts at steps 0, 1, …
        steps: Updates made.
        stopped_by: "target", "steps" or "plateau"; "budget" where nothing within it is better than the original.
        seconds: Time spent on this picture.
    """

    job: AttackTask
    pixels: Tensor
    scores: list[float]
    steps: int
    stopped_by: str
    seconds: float


def lanes(attack: Attack, score: Score) -> int:
    """Pictures in flight: the attack's `batch_size`, or what suits the score."""
    return attack.batch_size or score.rows(LANES, 1)


def check(attack: Attack, score: Score) -> None:
    """Refuse an attack that cannot end on this score.

    Raises:
        UsageError: Its target is above the score's highest figure.
    """
    if attack.target is not None and attack.target > score.scale:
        raise UsageError(f"target: {attack.target:g} is above {score.scale:g}, the most that {score.name} can be")


def copies(attack: Attack, score: Score, pixels: int) -> int:
    """Full-size float32 copies of a picture of so many pixels that fooling it takes at most."""
    if attack.retouches(pixels):
        return EXACT_COPIES + RETOUCH_COPIES
    return SMALL_COPIES if in_small(attack, score) else EXACT_COPIES


def key(attack: Attack, score: Score, job: AttackTask) -> str:
    """Name of a piece of work: everything its result depends on, and nothing else."""
    settings = replace(attack, batch_size=lanes(attack, score))
    model = (score.fingerprint, score.scale, score.device.type)
    return Cache.key("fooled", job.digest().hexdigest(), job.prompts, settings, *model)


def workers(score: Score) -> int:
    """Batches in flight by default: one per core where a tower is too small to use a second core, else one."""
    return torch.get_num_threads() if score.rows(LANES, 1) > 1 and score.device.type == "cpu" else 1


def run(
    attack: Attack,
    score: Score,
    jobs: Iterable[AttackTask | None],
    on_step: StepCallback | None = None,
    store: Cache | None = None,
    at_once: int | None = None,
) -> Iterator[AttackResult]:
    """Attack pictures of any sizes; yields each as it finishes.

    Args:
        attack: The attack.
        score: The score to fool.
        jobs: Read one by one as lanes get free; None is none for now, ask again after the next step.
        on_step: Called after every step with the pictures in flight.
        store: Where unfinished pictures are kept, by `key`, for a later run.
        at_once: Batches that go through the tower at once, each on a thread of its own; None for `workers`. Results
            do not depend on it.

    Yields:
        One `AttackResult` per job, in the order they finish.
    """
    check(attack, score)
    count, queue = lanes(attack, score), iter(jobs)
    batches = at_once or workers(score)
    # As many threads within a pass as pay, however many passes there are: another number rounds otherwise.
    threads = 1 if score.device.type == "cpu" and score.rows(LANES, 1) > 1 else torch.get_num_threads()
    flying: list[AttackState] = []
    saved = time.monotonic()
    with ThreadPoolExecutor(batches, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            while True:
                while len(flying) < batches * count and (job := next(queue, None)) is not None:
                    flying.append(_start(attack, score, job, store))
                    flying.sort(key=lambda lane: len(lane.job.prompts))
                if not flying:
                    return
                flying[:] = [refine.begun(lane) if refine.is_due(attack, lane) else lane for lane in flying]
                _step_all(pool, attack, score, flying, count)
                if on_step:
                    on_step(flying)
                for lane in [lane for lane in flying if lane.stopped_by]:
                    flying.remove(lane)
                    yield _finish(lane)
                if store and time.monotonic() - saved >= SAVE_EVERY:
                    _save(store, flying)
                    saved = time.monotonic()
        except (KeyboardInterrupt, GeneratorExit):
            if store:
                _save(store, flying)
            raise


def _step_all(
    pool: ThreadPoolExecutor, attack: Attack, score: Score, flying: Sequence[AttackState], count: int
) -> None:
    """One step of every lane; over only when it is so for all, even if interrupted, so that their states are whole."""
    batches = [flying[first : first + count] for first in range(0, len(flying), count)]
    steps = [pool.submit(_step, attack, score, batch, count) for batch in batches]
    try:
        for step in steps:
            step.result()
    finally:
        wait(steps)


@torch.inference_mode(False)  # steps run on threads of their own, which do not share a caller's inference mode
def _start(attack: Attack, score: Score, job: AttackTask, store: Cache | None) -> AttackState:
    seed = int.from_bytes(job.digest(attack.seed).digest()[:7], "big")
    size = (job.picture.shape[1], job.picture.shape[2])
    common: dict[str, Any] = {
        "job": job,
        "key": key(attack, score, job),
        "seed": seed,
        "budget": attack.budget,
        "seen": score.seen(*size),
        "last": attack.steps,
        "measured": attack.measured,
    }
    state = (store and store.load(common["key"], score.device)) or {}
    if state.get("retouched"):
        lane = refine.with_retouch(_exact(attack, score, job, common))
    else:
        lane = (small if in_small(attack, score, size) else _exact)(attack, score, job, common)
        if attack.mask == "visible":
            lane.put_on_mask()
    if lane.measured:
        lane.reach = min(MOST_REACH, TYPICAL_CHANGE / math.sqrt(attack.budget or 1.0))
    for name, value in state.items():
        setattr(lane, name, value)
    return lane


def _exact(attack: Attack, score: Score, job: AttackTask, common: dict[str, Any]) -> AttackState:
    original = job.picture.to(score.device).float() / 255
    pixels = original.clone()
    if attack.init == "noise":
        generator = torch.Generator().manual_seed(common["seed"])
        pixels = torch.rand(job.picture.shape, generator=generator).to(score.device)
    return AttackState(original=original, pixels=pixels, scratch=torch.empty_like(pixels), **common)


def _step(attack: Attack, score: Score, flying: Sequence[AttackState], count: int) -> None:
    """Evaluate every lane's 8-bit picture, keep the best, and move on those not done."""
    started = time.perf_counter()
    for lane in flying:
        lane.fitted = not lane.measured or lane.step == 0
        if is_due(lane):
            fit(lane)
    leaves = [lane.leaf().requires_grad_(attack.uses_gradient) for lane in flying]
    pictures = [lane.seen_by_model(leaf) for lane, leaf in zip(flying, leaves, strict=True)]
    prompts = [lane.job.prompts for lane in flying]
    versions = [pictures, *([round8(view(picture[None]))[0] for picture in pictures] for view in attack.views)]
    with passes_in(None if attack.precision == "float32" else torch.bfloat16, attack.compiled):
        seen = [score.values(version, prompts, count) for version in versions]
    losses, means = [], []
    # Lanes are sorted by their number of prompts; those of one number share the small operations.
    for _, group in groupby(range(len(flying)), key=lambda i: len(prompts[i])):
        places = list(group)
        own, *views = (torch.cat([values[i] for i in places]) for values in seen)
        values = torch.stack([own, *views]).mean(dim=0) if views else own
        losses.append(attack.objective(values, [leaves[i] for i in places], [flying[i].original for i in places]))
        means.append(score.figures(own.detach()).mean(dim=1))
    loss = torch.cat(losses)
    gradients: Sequence[Tensor] = [loss.new_zeros(())] * len(flying)
    if attack.uses_gradient:
        gradients = torch.autograd.grad(loss.sum(), leaves)
    with torch.no_grad():
        figures = torch.stack([loss, torch.cat(means)]).tolist()
        for lane, leaf, picture, gradient, value, mean in zip(
            flying, leaves, pictures, gradients, *figures, strict=True
        ):
            leaf.requires_grad_(False)
            lane.judge(score, picture, value, mean, attack)
            if not lane.stopped_by:
                if lane.retouch:
                    lane.retouch.step(lane, gradient, attack.retouches(lane.job.pixels))
                else:
                    attack.update(lane, lane.mask.pull(gradient) if lane.mask and attack.uses_gradient else gradient)
                lane.project()
                lane.step += 1
    elapsed = (time.perf_counter() - started) / len(flying)
    for lane in flying:
        lane.seconds += elapsed


def _save(store: Cache, flying: Sequence[AttackState]) -> None:
    for lane in flying:
        store.save(lane.key, lane.state())


def _finish(lane: AttackState) -> AttackResult:
    assert lane.best is not None  # step 0 is within any budget, and later steps only improve on it
    best = lane.best.cpu()
    nothing = lane.step > 0 and lane.budget is not None and torch.equal(best, lane.job.picture.cpu())
    return AttackResult(lane.job, best, lane.scores, lane.step, "budget" if nothing else lane.stopped_by, lane.seconds)
