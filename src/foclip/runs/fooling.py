"""Fool pictures: read, attack, write, then measure what was written.

Every figure in a `Result` is that of the file on disk, read back and scored
through the model's own preprocessing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from foclip import files
from foclip.attacks import Attack, AttackResult, AttackState, AttackTask, FoCLIP, check, copies, key, objective
from foclip.cache import locked
from foclip.core.scoring import mean
from foclip.data import images
from foclip.data.captions import PromptsOf, pair
from foclip.data.images import Source
from foclip.machine import available_memory
from foclip.models import Encoder
from foclip.models.scores import DEFAULT, EmbeddingScore, Prompts, Score, resolve
from foclip.outcome import Failure, Outcome, Progress, no_progress
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import fidelity, psnr
from foclip.runs.executors import Run, running
from foclip.runs.folder import Folder, Result, digest

#: Fidelity budget of the paper's attack, as detectors and studies know it, dB.
MIN_PSNR = 35.0
#: What nobody notices, and what `fool` keeps to unless told otherwise: FLIP's worst places stay below 0.2.
UNNOTICED = (Budget("flip99", 0.2),)
#: Points kept of the score over steps.
CURVE_POINTS = 200


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
        progress: Progress, in steps.

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
    with locked(files.output_folder(Path(out))):
        folder = Folder(Path(out))
        try:
            with running(engine, address, workers) as run:
                _fool(sources, own, chosen, attack, folder, failures, run, progress)
        finally:  # whatever ends it, what is finished is listed
            folder.list_results()
        return Outcome(folder.mine(), failures)


def _fool(
    sources: Sequence[Source],
    own: Sequence[Prompts],
    score: Score,
    attack: Attack,
    folder: Folder,
    failures: list[Failure],
    run: Run,
    progress: Progress,
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
            place = folder.place(name, key(attack, score, job))
            if place.done:
                finished += 1
                show(finished * steps)
            else:
                needs[place.key] = need
                yield AttackTask(job.picture, job.prompts, (place, original))

    def on_step(lanes: Sequence[AttackState]) -> None:
        done = finished * steps + sum(lane.step for lane in lanes)
        show(done, mean([lane.scores[-1] for lane in lanes]))

    for fooled in run(attack, score, jobs(), on_step, folder.store):
        place, original = fooled.job.tag
        images.write(images.to_image(fooled.pixels), place.output)
        folder.add(place, measure(place.name, place.output, original, score, attack, fooled, place.key))
        del needs[place.key]
        finished += 1
        show(finished * steps)


def _too_large(picture: Image.Image, need: int, room: int) -> str:
    return (
        f"{picture.width}×{picture.height} pixels need about {need / 1e9:.1f} GB of memory, "
        f"and {room / 1e9:.1f} GB are free; scale it down"
    )


def measure(
    name: str, output: Path, original: Image.Image, score: Score, attack: Attack, fooled: AttackResult, key: str
) -> Result:
    """All figures of a written file, read back from disk."""
    written, prompts = images.read(output), fooled.job.prompts
    before, after, gray_before, gray_after = (
        score.read(picture, prompts)
        for picture in (original, written, images.to_gray(original), images.to_gray(written))
    )
    close = fidelity(images.to_tensor(written), images.to_tensor(original))
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
        psnr_seen=psnr(*(images.to_tensor(picture)[:, rows, columns] for picture in (written, original))),
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
