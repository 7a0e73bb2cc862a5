"""A hardening run: decode the pictures, train the image tower, export the encoder, measure it."""

import hashlib
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from foclip import files
from foclip.data import prompts
from foclip.errors import EncoderError, UsageError
from foclip.hardening.measuring import FOOLED, Figures, card, compare
from foclip.hardening.pictures import Pictures, count, decode
from foclip.hardening.tower import HardenableEncoder, trainable
from foclip.hardening.trainer import (
    CHECKPOINT,
    HardenSettings,
    Texts,
    Trainer,
    TrainingProgress,
    generator,
    processes,
)
from foclip.models import Encoder, load_encoder
from foclip.outcome import Progress, no_progress
from foclip.runs.folder import Run

#: Largest number of held-out pictures, and largest share of all pictures.
HELD_OUT, HELD_OUT_SHARE = 256, 0.1
#: Skipped pictures that are logged one by one.
SHOWN = 20
#: Packages that the weights depend on.
PACKAGES = ("foclip", "torch", "open_clip_torch", "timm", "pillow", "numpy")


@dataclass(frozen=True)
class Hardened:
    """The result of a run."""

    folder: Path  # the hardened encoder; `local-dir:FOLDER` loads it
    before: Figures  # of the original
    after: Figures  # of the hardened encoder, as written
    skipped: list[str]  # one line for each picture that could not be decoded
    config: dict[str, Any]  # settings, data and versions, as in `training.json`


def harden(
    model: str,
    images: Sequence[Path],
    out: Path,
    settings: HardenSettings | None = None,
    evaluation: Sequence[Path] = (),
    device: str = "auto",
    *,
    progress: Progress = no_progress,
    log: Callable[[str], None] = lambda line: None,
    attack_steps: int = 100,
    checkpoint_seconds: float = 120.0,
    stop_after: int | None = None,
) -> Hardened | None:
    """Fine-tune an encoder's image tower so that it is hard to fool. Captions and labels are not used.

    A run that was killed continues when the same call is made again. After `stop_after`, and in all processes of a run
    except the first, there is no result.

    Args:
        model: The encoder's name, as `foclip.models.load_encoder` takes it.
        images: Folders (recursively), picture files, tars and Parquet tables to train on.
        out: The folder to write.
        settings: The settings of the run.
        evaluation: Pictures to measure on. If there are none, some of `images` are held out.
        device: "cpu", "cuda", …; under torchrun, "cuda" is the GPU of the process.
        progress: Shows the stages: decoding, training, exporting, measuring.
        log: Called with lines of text.
        attack_steps: Steps of FoCLIP for the figures of the card.
        checkpoint_seconds: Seconds between checkpoints.
        stop_after: Write a checkpoint and return after this step.

    Raises:
        UsageError: There are too few pictures, the checkpoint belongs to another run, or the hardened encoder is too
            far from the original (`HardenSettings.keep`).
        EncoderError: The encoder is unknown or cannot be hardened.
    """
    settings, run = settings or HardenSettings(), Run(out)
    with _process_group(device, settings) as device, run if processes()[0] == 0 else nullcontext():
        rank, _ = processes()
        if rank:
            progress, log = no_progress, lambda line: None
        work = files.output_folder(run.cache.folder)
        encoder = load_encoder(model, device)
        if not isinstance(encoder, HardenableEncoder):
            raise EncoderError(f"{model}: cannot be hardened, encoders of its kind offer no image tower to train")
        write, tower = encoder.exporter(), trainable(encoder, settings.checkpointing)
        train, held = _pictures(images, evaluation, encoder, settings, work / f"pictures-{rank}", progress, log)
        # Attackers of a score push towards some text. The captions of ImageNet cover many subjects.
        texts = Texts(encoder, prompts.imagenet(1000))
        trainer = Trainer(encoder, tower, train, texts, settings, run.cache, _identity(encoder, train, settings))
        _train(trainer, progress, log, checkpoint_seconds, stop_after)
        if trainer.step < settings.steps or rank:
            return None
        tower.requires_grad_(False)
        folder = files.output_folder(work / "hardened")
        advance = progress("exporting", 1)
        write(tower, folder, settings.half)
        advance(1)
        hardened = load_encoder(f"local-dir:{folder}", device)
        before, after = compare(encoder, hardened, held.levels, settings.min_psnr, attack_steps, progress)
        if after.clean_cosine < settings.keep:
            raise UsageError(
                f"keep: nothing written, since the mean cosine with {model} on {len(held)} clean held-out pictures is "
                f"{after.clean_cosine:.3f}, below {settings.keep:g}; train longer, with a lower learning rate "
                f"or a smaller change (more dB). The weights are kept in {work / CHECKPOINT}.pt"
            )
        skipped = [*train.skipped, *held.skipped]
        facts = {
            "original": model,
            "original_fingerprint": encoder.fingerprint,
            "settings": vars(settings) | {"lr": trainer.peak, "precision": trainer.precision},
            "images": [path.name for path in images],
            "eval": [path.name for path in evaluation],
            "pictures": len(train),
            "held_out": len(held),
            "fooled": min(FOOLED, len(held)),
            "skipped": skipped,
            "identity": trainer.identity,
            "device": encoder.device.type,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "processes": trainer.ranks,
            "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
            "fooled_steps": attack_steps,
            "before": before.as_json(),
            "after": after.as_json(),
        }
        files.write_text(folder / "training.json", files.to_json(facts) + "\n")
        files.write_text(folder / "README.md", card(out.resolve().name, facts))
        for file in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):
            files.rename(file, out / file.name)
        shutil.rmtree(work)
        return Hardened(out, before, after, skipped, facts)


@contextmanager
def _process_group(device: str, settings: HardenSettings) -> Iterator[str]:
    """Join the other processes if torchrun started this one. Yields the device to work on."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch_size % (ranks * settings.accumulate):
        raise UsageError(
            f"batch_size: {settings.batch_size} is no multiple of {ranks} processes × {settings.accumulate} parts"
        )
    if ranks == 1:
        yield device
        return
    cuda = device.startswith("cuda")
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else device
    finally:
        distributed.destroy_process_group()


def _pictures(
    images: Sequence[Path],
    evaluation: Sequence[Path],
    encoder: Encoder,
    settings: HardenSettings,
    kept: Path,
    progress: Progress,
    log: Callable[[str], None],
) -> tuple[Pictures, Pictures]:
    """Pictures to train on, and held-out pictures. Only as many are decoded as the run uses."""
    seen = len({*map(Path.resolve, map(Path, images))})
    log(f"looking through {seen} source{'s' if seen > 1 else ''}")
    total = count(images)
    if not total:
        raise UsageError(f"images: no pictures in {', '.join(map(str, images))}")
    order = torch.randperm(total, generator=generator(settings.seed, "choice")).tolist()
    size, see = encoder.preprocess.size, encoder.preprocess.image
    if evaluation:
        others = torch.randperm(count(evaluation), generator=generator(settings.seed, "held out"))
        held = decode(evaluation, size, see, others[:HELD_OUT].tolist())
        if not len(held):
            raise UsageError(f"eval: no pictures in {', '.join(map(str, evaluation))}")
    else:
        apart = min(HELD_OUT, max(1, math.floor(total * HELD_OUT_SHARE)))
        held = decode(images, size, see, order[:apart])
        order = order[apart:]
    order = order[: settings.steps * settings.batch_size]
    train = decode(images, size, see, order, kept, progress("decoding", len(order)))
    skipped = [*train.skipped, *held.skipped]
    for line in skipped[:SHOWN]:
        log(f"left out: {line}")
    if len(skipped) > SHOWN:
        log(f"left out: {len(skipped) - SHOWN:,} more, listed in training.json")
    if len(train) < settings.batch_size:
        raise UsageError(
            f"images: {len(train)} pictures to train on are fewer than a batch of {settings.batch_size}; "
            "give more, or a smaller batch size"
        )
    if not len(held):
        raise UsageError("eval: no picture is left to measure on; give some")
    return train, held


def _identity(encoder: Encoder, train: Pictures, settings: HardenSettings) -> str:
    """Digest of everything that the weights depend on. `keep` and `half` only decide what is written."""
    chosen = {key: value for key, value in vars(settings).items() if key not in {"keep", "half"}}
    shares = str((len(train), os.environ.get("WORLD_SIZE", "1")))
    digest = hashlib.sha256((encoder.fingerprint + json.dumps(chosen, sort_keys=True) + shares).encode())
    for batch in torch.split(train.levels, 1024):
        digest.update(batch.numpy().tobytes())
    return digest.hexdigest()


def _train(
    trainer: Trainer, progress: Progress, log: Callable[[str], None], checkpoint_seconds: float, stop_after: int | None
) -> None:
    """Train to the last step, with progress."""
    steps = trainer.settings.steps
    if trainer.step:
        log(f"continuing at step {trainer.step} of {steps}")
    size = f"{len(trainer.pictures):,} pictures, {trainer.parameter_count:,} parameters"
    log(f"{size}, {trainer.precision}, learning rate {trainer.peak:g}, {steps} steps")
    advance, note = progress("training", steps), ""
    advance(trainer.step)

    def on_progress(now: TrainingProgress) -> None:
        nonlocal note
        minutes, seconds = divmod(round(now.seconds_left), 60)
        cosines = f"cosine {now.clean:.3f} clean, {now.perturbed:.3f} perturbed"
        note = f"loss {now.loss:.4f}, {cosines}, {minutes}:{seconds:02d} left"
        advance(now.step, note)

    trainer.train(on_progress, checkpoint_seconds, stop_after, lambda step: advance(step, note))
