"""Fool pictures: attack, write, then measure what was written.

Every figure in a `Result` is that of the file on disk, read back and scored through the model's own preprocessing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from foclip.attacks import Attack, AttackPlan, AttackState, AttackTask, default_plan
from foclip.core.attacking import Attacked, RunAttack, attack_with
from foclip.core.scoring import samples_for
from foclip.data import images
from foclip.data.images import Source
from foclip.data.samples import PromptsOf, Sample
from foclip.models import Encoder
from foclip.models.batching import TargetCache, read_figures
from foclip.models.registry import DEFAULT, resolve
from foclip.models.scorer import Scorer
from foclip.outcome import Failure, Outcome, Progress, mean, no_progress
from foclip.perceptual.fidelity import fidelity, psnr
from foclip.runs.executors import running
from foclip.runs.folder import Run
from foclip.runs.results import OutputSlot, Result, Results, digest

#: Points kept of the score over steps.
CURVE_POINTS = 200

#: Called with a result, and with the original and the written picture while they are in memory.
OnResult = Callable[[Result, Image.Image, Image.Image], None]


def fool(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    out: str | Path = "fooled",
    *,
    model: str | Encoder | Scorer = "mini",
    score: str = DEFAULT,
    attack: AttackPlan | Attack | None = None,
    captions: str | Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    progress: Progress = no_progress,
    on_result: OnResult = lambda result, original, written: None,
) -> Outcome[Result]:
    """Fool pictures for prompts and write them to `out`, with `results.json`.

    A picture that cannot be read is a `Failure`; the others are done all the same. If the call is stopped, a later call
    with the same arguments keeps what was finished and continues what was begun. Runs in one folder add up: a picture
    that was fooled there with the same settings is not fooled again. Files that were not written by such a run are not
    overwritten; a name that is taken gets a number.

    Args:
        pictures: Files, folders, PIL pictures or pixels (3, H, W), uint8 or float in [0, 1].
        prompts: For all pictures, a list of prompts or the name of a set, or one list per picture; None for the score's
            own.
        out: Folder for the fooled pictures; made if needed.
        model: A scorer, an encoder, or the name of one.
        score: Name of the score, unless `model` is a scorer.
        attack: A plan, or a method for a plan without a budget; None for FoCLIP within what nobody notices
            (`foclip.attacks.default_plan`).
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.data.captions`).
        workers: Batches of pictures that are attacked at the same time, each on a core of its own; None for what suits
            the model, and on Ray for as many as there is room for. Results do not depend on it.
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
    scorer = resolve(model, score)
    plan = attack if isinstance(attack, AttackPlan) else AttackPlan(attack) if attack else default_plan(scorer)
    plan.check(scorer)
    samples = samples_for(scorer, pictures, prompts, captions, exclude=Path(out))
    with Run(out) as run:
        results = Results(run)
        fooling = _Fooling(run, results, samples, scorer, plan, progress, on_result)
        try:
            with running(engine, address, workers) as run_attack:
                failures = fooling.work(run_attack)
        finally:  # whatever ends it, what is finished is listed
            results.save()
        return Outcome(results.of_this_run(), failures)


class _Fooling:
    """One call of `fool`."""

    def __init__(
        self,
        run: Run,
        results: Results,
        samples: Outcome[Sample],
        scorer: Scorer,
        plan: AttackPlan,
        progress: Progress,
        on_result: OnResult,
    ) -> None:
        self._run, self._results, self._samples, self._scorer, self._plan = run, results, samples, scorer, plan
        self._on_result = on_result
        self._measure = Measure(scorer, plan)
        self._slots: dict[Sample, OutputSlot] = {}
        self._steps, self._done, self._shown = max(plan.steps, 1), 0, 0
        self._report = progress("fooling", self._steps * len(samples))

    def work(self, run_attack: RunAttack) -> list[Failure]:
        """Attack, write and measure what is pending; the pictures that failed."""
        failures = [*self._samples.failures]
        attacked = attack_with(
            self._plan,
            self._samples,
            self._scorer,
            on_step=self._on_step,
            states=self._run.cache,
            pending=self._pending,
            run=run_attack,
        )
        for found in attacked:
            if isinstance(found, Failure):
                failures.append(found)
            else:
                self._write(found)
                self._finished()
        return failures

    def _pending(self, sample: Sample, task: AttackTask) -> bool:
        slot = self._results.slot(sample.name, self._plan.key(self._scorer, task))
        if slot.done:
            self._finished()
        else:
            self._slots[sample] = slot
        return not slot.done

    def _write(self, attacked: Attacked) -> None:
        slot = self._slots.pop(attacked.sample)
        images.write(attacked.image, slot.output)
        written, original = images.read(slot.output), images.to_image(attacked.original)
        result = self._measure(slot, attacked, original, written)
        self._results.write(slot, result)
        self._on_result(result, original, written)

    def _finished(self) -> None:
        self._done += 1
        self._show(self._done * self._steps)

    def _on_step(self, states: Sequence[AttackState]) -> None:
        done = self._done * self._steps + sum(state.step for state in states)
        self._show(done, f", score {mean([state.scores[-1] for state in states]):.3f}")

    def _show(self, done: int, note: str = "") -> None:
        self._shown = max(self._shown, done)  # pictures that end at the same step are written one by one: never back
        self._report(self._shown, f"{self._done} of {len(self._samples)} pictures{note}")


class Measure:
    """Measures written files.

    Args:
        scorer: The score.
        plan: The attack, which results describe.
    """

    def __init__(self, scorer: Scorer, plan: AttackPlan) -> None:
        self._scorer, self._plan, self._targets = scorer, plan, TargetCache(scorer)

    def __call__(self, slot: OutputSlot, attacked: Attacked, original: Image.Image, written: Image.Image) -> Result:
        """All figures of a written file.

        Args:
            slot: Where it was written.
            attacked: What was written.
            original: The original.
            written: The file, read back from disk.
        """
        scorer, plan, prompts = self._scorer, self._plan, attacked.sample.prompts
        pictures = (original, written, images.to_gray(original), images.to_gray(written))
        before, after, gray_before, gray_after = read_figures(
            scorer, [scorer.preprocess.image(picture) for picture in pictures], [self._targets(prompts)] * 4
        )
        pixels = images.to_tensor(written)
        close = fidelity(pixels, attacked.original)
        rows, columns = scorer.preprocess.region(original.height, original.width)
        every = max(1, -(-len(attacked.curve) // CURVE_POINTS))
        return Result(
            source=slot.name,
            output=str(slot.output),
            prompts=list(prompts),
            score_before=mean(before),
            scores_before=before,
            score_after=mean(after),
            scores_after=after,
            gray_score_before=mean(gray_before),
            gray_score_after=mean(gray_after),
            psnr=close.psnr if close.linf else None,
            psnr_seen=psnr(pixels[:, rows, columns], attacked.original[:, rows, columns]),
            ssim=close.ssim if close.ssim == close.ssim else None,
            linf=close.linf,
            delta_e=close.delta_e,
            delta_e99=close.delta_e99,
            flip=close.flip,
            flip99=close.flip99,
            steps=attacked.steps,
            seconds=round(attacked.seconds, 3),
            stopped_by=attacked.stopped_by,
            score=scorer.info.name,
            model=scorer.model,
            fingerprint=scorer.fingerprint,
            config=plan.config(),
            seed=plan.method.seed,
            curve=[[step, round(value, 5)] for step, value in enumerate(attacked.curve)][::every],
            sha256=digest(slot.output),
            key=slot.key,
        )
