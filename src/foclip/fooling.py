"""Fool picture files: read, attack, write, then measure what was written.

Every figure in a `Result` is that of the file on disk, read back and scored
through the model's own preprocessing.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from foclip import files, images
from foclip.attacks import Attack, Checkpoints, Fooled, Trajectory
from foclip.encoders import DualEncoder
from foclip.errors import ImageError, UsageError
from foclip.fidelity import fidelity
from foclip.score import score_picture

#: Where a run keeps what it has until it is complete; a later call goes on from there.
UNFINISHED = ".unfinished"
#: Points kept of the score over steps.
CURVE_POINTS = 200


@dataclass(frozen=True)
class Result:
    """One fooled picture.

    Attributes:
        source: The original's file.
        output: The file written, PNG.
        prompts: The prompts it was fooled for.
        score_before: Mean CLIPScore (w = 2.5) over the prompts of the original.
        scores_before: CLIPScore of the original per prompt.
        score_after: Mean CLIPScore of the written file.
        scores_after: CLIPScore of the written file per prompt.
        gray_score_before: Mean CLIPScore of the original in gray (BT.601 luma).
        gray_score_after: Mean CLIPScore of the written file in gray.
        psnr: PSNR of the written file against the original, dB; None where they are equal.
        ssim: SSIM of the two; None below 11 × 11 pixels.
        linf: Largest change of a channel, in 8-bit levels.
        steps: Updates made.
        seconds: Time they took.
        stopped_by: "target" or "steps".
        model: Name of the encoder.
        fingerprint: SHA-256 of its weights.
        config: The attack's settings.
        seed: The attack's seed.
        curve: [step, mean CLIPScore] of the 8-bit iterate, at most 200 points.
    """

    source: str
    output: str
    prompts: list[str]
    score_before: float
    scores_before: list[float]
    score_after: float
    scores_after: list[float]
    gray_score_before: float
    gray_score_after: float
    psnr: float | None
    ssim: float | None
    linf: int
    steps: int
    seconds: float
    stopped_by: str
    model: str
    fingerprint: str
    config: dict[str, Any]
    seed: int
    curve: list[list[float]]

    @property
    def gain(self) -> float | None:
        """Relative gain of the mean score, or None where the original's is 0."""
        return self.score_after / self.score_before - 1 if self.score_before > 0 else None


@dataclass(frozen=True)
class Failure:
    """An input that was not done, and why, in one line."""

    source: str
    reason: str


def fool(
    sources: Sequence[Path],
    out: Path,
    encoder: DualEncoder,
    prompts: Sequence[str] | Sequence[Sequence[str]],
    attack: Attack,
    on_step: Callable[[Sequence[Trajectory]], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> tuple[list[Result], list[Failure]]:
    """Fool picture files for prompts and write them to `out`, with `results.json`.

    A source that cannot be read is a `Failure`; the others are done all the
    same. Stopped in the middle, a later call with the same arguments keeps
    what was finished and continues what was begun.

    Args:
        sources: Picture files.
        out: Folder for the fooled pictures; made if needed.
        encoder: The encoder to fool.
        prompts: Prompts for every picture, or one list of them per source.
        attack: The attack.
        on_step: Called after each step with the pictures in flight.
        on_result: Called with each result once its file is written.

    Returns:
        Results in the order of the sources, and failures.

    Raises:
        UsageError: `out` is unusable, or a fooled picture would overwrite its source.
    """
    files.output_folder(out)
    outputs = _outputs(sources, out)
    own_prompts = [_own(prompts, number) for number in range(len(sources))]
    texts = {own: encoder.encode_texts(own) for own in dict.fromkeys(own_prompts)}
    unfinished = out / UNFINISHED
    finished = _Finished(unfinished / "finished.json")
    results: dict[int, Result] = {}
    failures: list[Failure] = []
    in_flight: dict[int, tuple[int, Image.Image, str]] = {}  # by place in the queue: place in sources, original, key
    places = itertools.count()

    def queue() -> Iterator[Tensor]:
        for number, source in enumerate(sources):
            try:
                original = images.read(source)
            except ImageError as error:
                failures.append(Failure(str(source), str(error)))
                continue
            key = _key(original, own_prompts[number], attack, encoder)
            if (known := finished.get(key, outputs[number])) is not None:
                _add(number, known)
                continue
            in_flight[next(places)] = (number, original, key)
            yield images.to_tensor(original)

    def texts_of_queue() -> Iterator[Tensor]:
        while True:  # asked after the queue, for the picture it gave last
            yield texts[own_prompts[in_flight[next(reversed(in_flight))][0]]]

    def _add(number: int, result: Result) -> None:
        results[number] = result
        files.write_text(out / "results.json", files.to_json([asdict(results[n]) for n in sorted(results)]))
        if on_result:
            on_result(result)

    for fooled in attack.run(encoder, queue(), texts_of_queue(), on_step, Checkpoints(unfinished)):
        number, original, key = in_flight.pop(fooled.index)
        images.write(images.to_image(fooled.pixels), outputs[number])
        own = own_prompts[number]
        result = _measure(sources[number], outputs[number], original, encoder, own, texts[own], attack, fooled)
        finished.add(key, result)
        _add(number, result)
    shutil.rmtree(unfinished, ignore_errors=True)
    if not results:
        files.write_text(out / "results.json", "[]")
    return [results[number] for number in sorted(results)], failures


def _own(prompts: Sequence[str] | Sequence[Sequence[str]], number: int) -> tuple[str, ...]:
    """The prompts of one source."""
    shared = all(isinstance(prompt, str) for prompt in prompts)
    return tuple(str(prompt) for prompt in (prompts if shared else prompts[number]))


def _outputs(sources: Sequence[Path], out: Path) -> list[Path]:
    """`out`/<stem>.png for each source; stems that occur again get a number."""
    outputs: list[Path] = []
    for source in sources:
        output, count = out / f"{source.stem}.png", 1
        while output in outputs:
            count += 1
            output = out / f"{source.stem}-{count}.png"
        outputs.append(output)
    for output in outputs:
        if any(output.exists() and source.exists() and output.samefile(source) for source in sources):
            raise UsageError(f"--out {out}: {output} would overwrite an original; choose another folder")
    return outputs


def _key(original: Image.Image, prompts: Sequence[str], attack: Attack, encoder: DualEncoder) -> str:
    """Digest of everything a result depends on."""
    digest = hashlib.sha256(repr((original.size, list(prompts), attack, encoder.fingerprint)).encode())
    digest.update(original.tobytes())
    return digest.hexdigest()


class _Finished:
    """Results of a run that was cut off, by key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.results = {}

    def get(self, key: str, output: Path) -> Result | None:
        """The result of this key, if it was written to this file and the file is still there."""
        known = self.results.get(key)
        return Result(**known) if known and known["output"] == str(output) and output.exists() else None

    def add(self, key: str, result: Result) -> None:
        self.results[key] = asdict(result)
        self.path.parent.mkdir(exist_ok=True)
        files.write_text(self.path, files.to_json(self.results))


def _measure(
    source: Path,
    output: Path,
    original: Image.Image,
    encoder: DualEncoder,
    prompts: Sequence[str],
    texts: Tensor,
    attack: Attack,
    fooled: Fooled,
) -> Result:
    """All figures of a written file, read back from disk."""
    written = images.read(output)
    before, after, gray_before, gray_after = (
        score_picture(encoder, picture, texts)
        for picture in (original, written, images.to_gray(original), images.to_gray(written))
    )
    close = fidelity(images.to_tensor(written), images.to_tensor(original))
    every = max(1, -(-len(fooled.scores) // CURVE_POINTS))
    return Result(
        source=str(source),
        output=str(output),
        prompts=list(prompts),
        score_before=mean(before),
        scores_before=before,
        score_after=mean(after),
        scores_after=after,
        gray_score_before=mean(gray_before),
        gray_score_after=mean(gray_after),
        psnr=close.psnr if close.linf else None,
        ssim=close.ssim if close.ssim == close.ssim else None,
        linf=close.linf,
        steps=fooled.steps,
        seconds=round(fooled.seconds, 3),
        stopped_by=fooled.stopped_by,
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        config=attack.config(),
        seed=attack.seed,
        curve=[[step, round(score, 5)] for step, score in enumerate(fooled.scores)][::every],
    )


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)
