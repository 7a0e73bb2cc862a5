"""Fool pictures: read, attack, write, then measure what was written.

Every figure in a `Result` is that of the file on disk, read back and scored
through the model's own preprocessing.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from foclip.attacks import Attack, AttackResult, AttackState, AttackTask, FoCLIP, check, copies, key, objective
from foclip.data import images
from foclip.data.captions import PromptsOf, pair
from foclip.data.images import Source
from foclip.machine import available_memory
from foclip.models import Encoder
from foclip.models.scores import DEFAULT, EmbeddingScore, Prompts, Score, resolve
from foclip.outcome import Failure, Outcome, Progress, mean, no_progress
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import fidelity, psnr
from foclip.runs.executors import Run as RunAttack
from foclip.runs.executors import running
from foclip.runs.folder import Run
from foclip.runs.results import Result, Results, digest

#: What nobody notices, and what `fool` keeps to unless told otherwise: FLIP's worst places stay below 0.2.
UNNOTICED = (Budget("flip99", 0.2),)
#: Points kept of the score over steps.
CURVE_POINTS = 200

#: Called with a result, and with the original and the written picture while they are in memory.
OnResult = Callable[[Result, Image.Image, Image.Image], None]


def fool(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    out: str | Path = "fooled",
    *,
    model: str | Encoder | EmbeddingScore = "mini",
    score: str = DEFAULT,
    attack: Attack | None = None,
    captions: str | Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    progress: Progress = no_progress,
    on_result: OnResult = lambda result, original, written: None,
) -> Outcome[Result]:
    """Fool pictures for prompts and write them to `out`, with `results.json`.

    A picture that cannot be read is a `Failure`; the others are done all the same. Stopped in the middle, a later
    call with the same arguments keeps what was finished and continues what was begun. Runs in one folder add
    up: a picture that was fooled there with the same settings is not fooled again, and nothing that was not written
    by such a run is overwritten; a name that is taken gets a number.

    Args:
        pictures: Files, PIL pictures or pixels (3, H, W), uint8 or float in [0, 1].
        prompts: For all pictures, a list of prompts or the name of a set, or one list per picture;
            None for the score's own.
        out: Folder for the fooled pictures; made if needed.
        model: An encoder, its name, or a score over one.
        score: Name of the score, unless `model` is one.
        attack: None for FoCLIP within what nobody notices (`UNNOTICED`).
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.data.captions`).
        workers: Batches of pictures that are attacked at once, each on a core of its own; None for what suits the model
            (`foclip.attacks.workers`), and on Ray for as many as there is room for. Results do not depend on it.
        engine: "local", or "ray" for a cluster, with the same results.
        address: Of that cluster; None for Ray on this machine.
        progress: Shows progress, in steps; `foclip.print_progress` prints it.
        on_result: Called with each new result and its pictures.

    Returns:
        `Result` in the order of the pictures, and failures.

    Raises:
        FoclipError: Prompts, model or score are unusable.
        UsageError: `out` is unusable, or another run is at work there; or there is no such cluster.
    """
    chosen = resolve(model, score)
    attack = attack or FoCLIP(objective=objective(temperature=chosen.temperature), budgets=UNNOTICED, mask="visible")
    check(attack, chosen)
    failures: list[Failure] = []
    sources, own = pair(pictures, prompts, captions, chosen.prompts, failures, besides=Path(out))
    with Run(out) as folder:
        results = Results(folder)
        try:
            with running(engine, address, workers) as run:
                _fool(sources, own, chosen, attack, folder, results, failures, run, progress, on_result)
        finally:  # whatever ends it, what is finished is listed
            results.save()
        return Outcome(results.of_this_run(), failures)


def _fool(
    sources: Sequence[Source],
    own: Sequence[Prompts],
    score: Score,
    attack: Attack,
    folder: Run,
    results: Results,
    failures: list[Failure],
    run: RunAttack,
    progress: Progress,
    on_result: OnResult,
) -> None:
    steps = max(attack.steps, 1)
    report, finished, shown = progress("fooling", steps * len(sources)), 0, 0

    def show(done: int, mean_score: float | None = None) -> None:
        nonlocal shown
        shown = max(shown, done)  # those that end at one step are written one by one: never back
        text = f"{finished} of {len(sources)} pictures"
        report(shown, text if mean_score is None else f"{text}, score {mean_score:.3f}")

    room = available_memory(score.device)
    needs: dict[str, int] = {}  # of the pictures in flight

    def jobs() -> Iterator[AttackTask | None]:
        nonlocal finished
        for number, original in images.readable(sources, failures):
            name = images.name(sources[number], number + 1)
            pixels = original.width * original.height
            need = copies(attack, score, pixels) * 4 * 3 * pixels
            if need > room:
                failures.append(Failure(name, f"{name}: {_too_large(original, need, room)}"))
                continue
            while need + sum(needs.values()) > room:
                yield None
            job = AttackTask(images.to_tensor(original), own[number])
            place = results.slot(name, key(attack, score, job))
            if place.done:
                finished += 1
                show(finished * steps)
            else:
                needs[place.key] = need
                yield AttackTask(job.picture, job.prompts, (place, original))

    def on_step(lanes: Sequence[AttackState]) -> None:
        done = finished * steps + sum(lane.step for lane in lanes)
        show(done, mean([lane.scores[-1] for lane in lanes]))

    for fooled in run(attack, score, jobs(), on_step, folder.cache):
        place, original = fooled.job.tag
        images.write(images.to_image(fooled.pixels), place.output)
        written = images.read(place.output)
        result = measure(place.name, place.output, original, written, score, attack, fooled, place.key)
        results.write(place, result)
        on_result(result, original, written)
        del needs[place.key]
        finished += 1
        show(finished * steps)


def _too_large(picture: Image.Image, need: int, room: int) -> str:
    return (
        f"{picture.width}×{picture.height} pixels need about {need / 1e9:.1f} GB of memory, "
        f"and {room / 1e9:.1f} GB are free; scale it down"
    )


def measure(
    name: str,
    output: Path,
    original: Image.Image,
    written: Image.Image,
    score: Score,
    attack: Attack,
    fooled: AttackResult,
    key: str,
) -> Result:
    """All figures of a written file, read back from disk."""
    prompts, before_pixels = fooled.job.prompts, fooled.job.picture.cpu()
    pictures = (original, written, images.to_gray(original), images.to_gray(written))
    before, after, gray_before, gray_after = score.read_looks([score.look(p) for p in pictures], [prompts] * 4)
    pixels = images.to_tensor(written)
    close = fidelity(pixels, before_pixels)
    rows, columns = score.seen(original.height, original.width)
    every = max(1, -(-len(fooled.scores) // CURVE_POINTS))
    return Result(
        source=name,
        output=str(output),
        prompts=list(prompts),
        score_before=mean(before),
        scores_before=before,
        score_after=mean(after),
        scores_after=after,
        gray_score_before=mean(gray_before),
        gray_score_after=mean(gray_after),
        psnr=close.psnr if close.linf else None,
        psnr_seen=psnr(pixels[:, rows, columns], before_pixels[:, rows, columns]),
        ssim=close.ssim if close.ssim == close.ssim else None,
        linf=close.linf,
        delta_e=close.delta_e,
        delta_e99=close.delta_e99,
        flip=close.flip,
        flip99=close.flip99,
        steps=fooled.steps,
        seconds=round(fooled.seconds, 3),
        stopped_by=fooled.stopped_by,
        score=score.name,
        model=score.model,
        fingerprint=score.fingerprint,
        config=attack.config(),
        seed=attack.seed,
        curve=[[step, round(value, 5)] for step, value in enumerate(fooled.scores)][::every],
        sha256=digest(output),
        key=key,
    )
