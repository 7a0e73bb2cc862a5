"""A hardening run from pictures to a folder: decode, train, measure, write."""

import hashlib
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from foclip import files
from foclip.data import prompts
from foclip.errors import EncoderError, UsageError
from foclip.hardening import card
from foclip.hardening.export import export, model_config
from foclip.hardening.measure import Figures, measure
from foclip.hardening.pictures import Pictures, count, decode
from foclip.hardening.settings import Settings
from foclip.hardening.tower import trainable
from foclip.hardening.trainer import Trainer, TrainingProgress, generator
from foclip.models import OpenClipEncoder, load_encoder

#: Held-out pictures: at most so many, and at most this share of them all.
HELD_OUT, HELD_OUT_SHARE = 256, 0.1
#: Held-out pictures that FoCLIP fools, and its steps, for the figures of the card.
FOOLED, FOOLED_STEPS = 8, 100
#: Pictures left out that are told one by one.
SHOWN = 20
#: Called with a line of what is being done, and, while training, with how far it is.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Hardened:
    """What a run made.

    Attributes:
        folder: The twin; `local-dir:FOLDER` loads it.
        before: Figures of the original.
        after: Figures of the twin, as written.
        skipped: One line for each picture that could not be decoded.
        config: Settings, data and versions, as in `training.json`.
    """

    folder: Path
    before: Figures
    after: Figures
    skipped: list[str]
    config: dict[str, Any]


def harden(
    model: str,
    images: Sequence[Path],
    out: Path,
    settings: Settings | None = None,
    evaluation: Sequence[Path] = (),
    device: str = "auto",
    say: Say = lambda line: None,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    attack_steps: int = FOOLED_STEPS,
    every: float = 120.0,
    stop_after: int | None = None,
) -> Hardened | None:
    """Fine-tune an encoder's image tower so that it is hard to fool; no captions, no labels.

    The same call goes on after it was killed.

    Args:
        model: The encoder's name, as `foclip.models.load` takes it.
        images: Folders (recursively), picture files, tars and Parquet tables to train on.
        out: The folder to write.
        settings: What the run does.
        evaluation: Pictures to measure on; without any, some of `images` are held out.
        device: "cpu", "cuda", …; under torchrun, "cuda" is the process's own.
        say: Called with lines of text.
        on_progress: Called while training.
        attack_steps: FoCLIP's steps for the figures of the card.
        every: Seconds between checkpoints.
        stop_after: Leave early after this step, with a checkpoint.

    Returns:
        What was made; None after `stop_after`, and in all processes of a run but the first.

    Raises:
        UsageError: There are too few pictures, the checkpoint is another run's, or the twin is too far from the
            original (`Settings.keep`).
        EncoderError: The encoder is unknown or cannot be trained.
    """
    settings = settings or Settings()
    device = _join(device, settings)
    first = _rank() == 0
    try:
        return _harden(
            model,
            images,
            out,
            settings,
            evaluation,
            device,
            say if first else lambda line: None,
            on_progress if first else lambda progress: None,
            attack_steps,
            every,
            stop_after,
        )
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _harden(
    model: str,
    images: Sequence[Path],
    out: Path,
    settings: Settings,
    evaluation: Sequence[Path],
    device: str,
    say: Say,
    on_progress: Callable[[TrainingProgress], None],
    attack_steps: int,
    every: float,
    stop_after: int | None,
) -> Hardened | None:
    work = files.output_folder(files.output_folder(out) / ".unfinished")
    encoder = load_encoder(model, device)
    if not isinstance(encoder, OpenClipEncoder):
        raise EncoderError(f"{model}: cannot be hardened, it is no model of open_clip")
    config = model_config(encoder)
    tower = trainable(encoder, settings.checkpointing)
    seen = len({*map(Path.resolve, map(Path, images))})
    say(f"looking through {seen} source{'s' if seen > 1 else ''}")
    train, held = _pictures(images, evaluation, encoder, settings, work / f"pictures-{_rank()}", say)
    # Whoever attacks a score pushes towards some text; ImageNet's captions span many subjects.
    texts = encoder.encode_texts(prompts.imagenet(1000))
    trainer = Trainer(
        encoder, tower, train, texts, settings, work / "checkpoint.pt", _identity(encoder, train, settings)
    )
    if trainer.step:
        say(f"goes on at step {trainer.step} of {settings.steps}")
    parameters = sum(p.numel() for p in tower.parameters() if p.requires_grad)
    say(
        f"{len(train):,} pictures, {parameters:,} parameters, {trainer.precision}, "
        f"learning rate {trainer.peak:g}, {settings.steps} steps"
    )
    trainer.train(on_progress, every, stop_after)
    if trainer.step < settings.steps or _rank():
        return None
    tower.requires_grad_(False)
    twin_folder = files.output_folder(work / "twin")
    export(encoder, tower.visual, config, twin_folder, settings.half)
    say("measuring original and twin")
    twin = load_encoder(f"local-dir:{twin_folder}", device)
    figures = [
        measure(each, encoder, held.levels, prompts.ARTWORKS, settings.min_psnr, FOOLED, attack_steps)
        for each in (encoder, twin)
    ]
    before, after = figures
    if after.clean_cosine < settings.keep:
        raise UsageError(
            f"keep: no twin written, since its mean cosine with {model} on {len(held)} clean held-out pictures is "
            f"{after.clean_cosine:.3f}, below {settings.keep:g}; train longer, with a lower learning rate "
            f"or a smaller change (more dB). Its weights are kept in {trainer.path}"
        )
    facts = _facts(model, encoder, images, evaluation, train, held, settings, trainer)
    facts |= {"fooled_steps": attack_steps, "before": before.as_json(), "after": after.as_json()}
    files.write_text(twin_folder / "training.json", files.to_json(facts) + "\n")
    files.write_text(twin_folder / "README.md", card.write(out.resolve().name, facts))
    for file in sorted(twin_folder.iterdir(), key=lambda p: p.suffix == ".json"):
        file.replace(out / file.name)
    shutil.rmtree(work)
    return Hardened(out, before, after, [*train.skipped, *held.skipped], facts)


def _join(device: str, settings: Settings) -> str:
    """Join the other processes if torchrun started this one; the device to work on."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch_size % (ranks * settings.accumulate):
        raise UsageError(
            f"batch_size: {settings.batch_size} is no multiple of {ranks} processes × {settings.accumulate} parts"
        )
    if ranks == 1:
        return device
    cuda = device.startswith("cuda")
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else device


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _pictures(
    images: Sequence[Path],
    evaluation: Sequence[Path],
    encoder: OpenClipEncoder,
    settings: Settings,
    kept: Path,
    say: Say,
) -> tuple[Pictures, Pictures]:
    """Pictures to train on and pictures held out; no more are decoded than the run sees."""
    total = count(images)
    if not total:
        raise UsageError(f"images: no pictures in {', '.join(map(str, images))}")
    order = torch.randperm(total, generator=generator(settings.seed, "choice")).tolist()
    resize = encoder.resize
    if evaluation:
        others = count(evaluation)
        chosen = torch.randperm(others, generator=generator(settings.seed, "held out"))[:HELD_OUT].tolist()
        held = decode(evaluation, encoder.image_size, resize, chosen)
        if not len(held):
            raise UsageError(f"eval: no pictures in {', '.join(map(str, evaluation))}")
    else:
        apart = min(HELD_OUT, max(1, math.floor(total * HELD_OUT_SHARE)))
        held = decode(images, encoder.image_size, resize, order[:apart])
        order = order[apart:]
    order = order[: settings.steps * settings.batch_size]
    train = decode(
        images,
        encoder.image_size,
        resize,
        order,
        kept,
        lambda done: say(f"decoded {done:,} of {len(order):,} pictures"),
    )
    skipped = [*train.skipped, *held.skipped]
    for line in skipped[:SHOWN]:
        say(f"left out: {line}")
    if len(skipped) > SHOWN:
        say(f"left out: {len(skipped) - SHOWN:,} more, listed in training.json")
    if len(train) < settings.batch_size:
        raise UsageError(
            f"images: {len(train)} pictures to train on are fewer than a batch of {settings.batch_size}; "
            "give more, or a smaller batch size"
        )
    if not len(held):
        raise UsageError("eval: no picture is left to measure on; give some")
    return train, held


def _identity(encoder: OpenClipEncoder, train: Pictures, settings: Settings) -> str:
    """Digest of all that the weights depend on; `keep` and `half` only decide what is written."""
    digest = hashlib.sha256(encoder.fingerprint.encode())
    chosen = {key: value for key, value in settings.config().items() if key not in {"keep", "half"}}
    digest.update(json.dumps(chosen, sort_keys=True).encode())
    digest.update(str((len(train), os.environ.get("WORLD_SIZE", "1"))).encode())
    for batch in torch.split(train.levels, 1024):
        digest.update(batch.numpy().tobytes())
    return digest.hexdigest()


def _facts(
    model: str,
    encoder: OpenClipEncoder,
    images: Sequence[Path],
    evaluation: Sequence[Path],
    train: Pictures,
    held: Pictures,
    settings: Settings,
    trainer: Trainer,
) -> dict[str, Any]:
    """What is needed to repeat the run."""
    packages = ("foclip", "torch", "open_clip_torch", "timm", "pillow", "numpy")
    return {
        "original": model,
        "original_fingerprint": encoder.fingerprint,
        "settings": settings.config() | {"lr": trainer.peak, "precision": trainer.precision},
        "images": [path.name for path in images],
        "eval": [path.name for path in evaluation],
        "pictures": len(train),
        "held_out": len(held),
        "fooled": min(FOOLED, len(held)),
        "skipped": [*train.skipped, *held.skipped],
        "identity": trainer.identity,
        "device": encoder.device.type,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": trainer.ranks,
        "versions": {package: version(package) for package in packages} | {"python": platform.python_version()},
    }
