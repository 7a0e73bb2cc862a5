"""The training loop.

All random choices of step n come from generators that are seeded with (seed, n). They do not depend on earlier steps,
so a run that was killed and continues from its checkpoint ends with the same bytes as one that was not.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from foclip.cache import Cache
from foclip.errors import UsageError
from foclip.hardening.augmentation import augment
from foclip.hardening.perturbation import perturb, random_start
from foclip.hardening.pictures import Pictures
from foclip.hardening.settings import HardenSettings
from foclip.hardening.tower import precision_for

#: Name of the checkpoint in the cache.
CHECKPOINT = "checkpoint"
#: Share of the steps over which the learning rate rises.
WARMUP = 0.03
#: Weight decay of matrices and filters; vectors (shifts, scales) have none.
DECAY = 1e-4
#: Gradients are clipped to this global norm, so that one unusual batch does not spoil a long run.
LARGEST_GRADIENT = 1.0
#: Steps between two reports.
REPORT_EVERY = 25


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a run.

    Attributes:
        step: Finished steps.
        steps: Steps of the whole run.
        loss: Loss of the last step.
        clean: Mean cosine of the trained and the original encoder on the clean pictures of the last step.
        perturbed: Mean cosine of the trained encoder on perturbed pictures with the original on clean ones.
        seconds_left: Estimated seconds until the end of training.
    """

    step: int
    steps: int
    loss: float
    clean: float
    perturbed: float
    seconds_left: float


class Trainer:
    """A training run: the original encoder, the tower that is trained, the pictures and the current step.

    Args:
        encoder: The original encoder, a `foclip.hardening.tower.HardenableEncoder`.
        tower: A copy of its image tower, from `foclip.hardening.tower.trainable`.
        pictures: The pictures to train on.
        texts: Unit vectors (T, D) that pictures are pushed towards.
        settings: The settings of the run.
        cache: Holds the checkpoint.
        identity: Digest of everything that the weights depend on.

    Raises:
        UsageError: The checkpoint belongs to a run of another identity.
    """

    def __init__(
        self,
        encoder: Any,
        tower: nn.Module,
        pictures: Pictures,
        texts: Tensor,
        settings: HardenSettings,
        cache: Cache,
        identity: str,
    ) -> None:
        self.encoder, self.tower, self.pictures, self.texts = encoder, tower, pictures, texts
        self.settings, self.cache, self.identity = settings, cache, identity
        self.original: nn.Module = encoder.image_tower()
        self.rank, self.ranks = (
            (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        )
        trained = [p for p in tower.parameters() if p.requires_grad]
        self.peak = settings.rate(sum(p.numel() for p in trained))
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in trained if p.ndim > 1], "weight_decay": DECAY},
                {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=self.peak,
        )
        self.step = 0
        self.precision: str = settings.precision
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._resume()

    def _resume(self) -> None:
        state = self.cache.load(CHECKPOINT, self.encoder.device)
        if self.ranks > 1:
            distributed.barrier()  # every process has read it before one writes
        if state is not None and state.get("identity") != self.identity:
            raise UsageError(
                f"{self.cache.path(CHECKPOINT, '.pt')}: belongs to a run with other settings, pictures or weights; "
                "choose another --out, or delete it"
            )
        if state is not None:
            self.step, self.precision = state["step"], state["precision"]
            self.tower.load_state_dict(state["tower"])
            self.optimizer.load_state_dict(state["optimizer"])
        elif self.precision == "auto":
            bfloat16 = self.rank == 0 and precision_for(self.tower, self.encoder) == "bfloat16"
            choice = torch.tensor([float(bfloat16)], device=self.encoder.device)
            if self.ranks > 1:
                distributed.broadcast(choice, 0)
            self.precision = "bfloat16" if choice.item() else "float32"
        if state is None:
            self.save()  # keeps the choice of precision, because a second measurement could end differently

    def save(self) -> None:
        """Write the checkpoint, in the first process only."""
        if self.rank == 0:
            state = {
                "identity": self.identity,
                "step": self.step,
                "precision": self.precision,
                "tower": self.tower.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            self.cache.save(CHECKPOINT, state)

    def train(
        self,
        on_progress: Callable[[TrainingProgress], None],
        checkpoint_seconds: float = 120.0,
        stop_after: int | None = None,
    ) -> None:
        """Train to the last step.

        Args:
            on_progress: Called every `REPORT_EVERY` steps and after the last one.
            checkpoint_seconds: Seconds between checkpoints.
            stop_after: Write a checkpoint and return after this step.
        """
        settings = self.settings
        last = settings.steps if stop_after is None else min(stop_after, settings.steps)
        module: nn.Module = self.tower
        if self.ranks > 1:
            module = nn.parallel.DistributedDataParallel(self.tower, broadcast_buffers=False)
        started, first, saved = time.monotonic(), self.step, time.monotonic()
        while self.step < last:
            self._set_rate()
            losses, clean, perturbed = self._update(module)
            self.step += 1
            if self.step % REPORT_EVERY == 0 or self.step == last:
                left = (time.monotonic() - started) / (self.step - first) * (settings.steps - self.step)
                on_progress(TrainingProgress(self.step, settings.steps, losses, clean, perturbed, left))
            if time.monotonic() - saved > checkpoint_seconds and self.step < last:
                self.save()
                saved = time.monotonic()
        if self.step > first:
            self.save()

    def _set_rate(self) -> None:
        """Set the learning rate: it rises over the first steps, then falls along a cosine."""
        share = self.step / self.settings.steps
        rise = min(1.0, (self.step + 1) / max(1.0, WARMUP * self.settings.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * rise * 0.5 * (1 + math.cos(math.pi * share))

    def _update(self, module: nn.Module) -> tuple[float, float, float]:
        """Make one step; returns the loss, the clean cosine (0 where it is not reported) and the perturbed cosine."""
        self.optimizer.zero_grad(set_to_none=True)
        places = self._places()
        parts = torch.chunk(places, self.settings.accumulate)
        totals = [0.0, 0.0, 0.0]
        for number, part in enumerate(parts):
            # Processes exchange gradients once a step, after the last part.
            waits = isinstance(module, nn.parallel.DistributedDataParallel) and number < len(parts) - 1
            with cast(Any, module).no_sync() if waits else nullcontext():
                values = self._part(module, part, number, len(part) / len(places))
            totals = [total + value * len(part) / len(places) for total, value in zip(totals, values, strict=True)]
        nn.utils.clip_grad_norm_([p for p in self.tower.parameters() if p.requires_grad], LARGEST_GRADIENT)
        self.optimizer.step()
        return totals[0], totals[1], totals[2]

    def _part(self, module: nn.Module, places: Tensor, number: int, weight: float) -> tuple[float, float, float]:
        device, settings = self.encoder.device, self.settings
        draws = generator(settings.seed, self.step, self.rank, number)
        # Towers may have random operations of their own.
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=draws)))
        levels = self.pictures.levels[places].to(device)
        pictures = augment(levels, self.pictures.enlarged[places], draws)
        n = len(pictures)
        with torch.no_grad():
            targets = self._encode(self.original, pictures)
        chosen = self.texts[torch.randint(len(self.texts), (n,), generator=draws).to(device)]
        aimed = (torch.rand(n, generator=draws) < settings.aimed).to(device)
        share = settings.least + (1 - settings.least) * torch.rand(n, generator=draws)
        radius = (settings.radius(pictures[0].numel()) * share).to(device)
        noise = draws if device.type == "cpu" else generator(settings.seed, self.step, self.rank, number, device=device)
        changed = perturb(
            lambda x: self._encode(self.tower, x),
            pictures,
            torch.where(aimed[:, None], chosen, -targets),
            radius,
            random_start(pictures, radius, noise),
            settings.ascent,
        )
        # The squared distance of FARE. Of unit vectors it is 2 - 2 cos.
        loss = (self._encode(module, changed) - targets).square().sum(1).mean()
        torch.autograd.backward(loss * weight)
        clean = 0.0
        if (self.step + 1) % REPORT_EVERY == 0 or self.step + 1 == settings.steps:
            with torch.no_grad():
                clean = float((self._encode(self.tower, pictures) * targets).sum(1).mean())
        value = float(loss.detach())
        return value, clean, 1 - value / 2

    def _encode(self, module: nn.Module, pictures: Tensor) -> Tensor:
        """Unit vectors of pictures of the model's size, in the precision of the run."""
        device = self.encoder.device
        inputs = self.encoder.preprocess.normalize(pictures)
        if device.type == "cpu":
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return torch.as_tensor(module(inputs))

    def _places(self) -> Tensor:
        """The pictures of this process in this step: its share of the batch."""
        own = self.settings.batch_size // self.ranks
        first = self.step * self.settings.batch_size + self.rank * own
        return torch.cat(list(self._slices(first, own)))

    def _slices(self, first: int, length: int) -> Iterator[Tensor]:
        """Places first … first + length of the concatenated epochs. Each epoch has its own order."""
        n = len(self.pictures)
        while length > 0:
            epoch, place = divmod(first, n)
            if self._order[0] != epoch:
                self._order = (epoch, torch.randperm(n, generator=generator(self.settings.seed, "epoch", epoch)))
            taken = self._order[1][place : place + length]
            yield taken
            first, length = first + len(taken), length - len(taken)


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose seed depends on these values alone."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big"))
