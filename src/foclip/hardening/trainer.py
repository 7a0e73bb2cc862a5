"""The settings of a hardening run, and its training loop.

All random choices of step n come from generators that are seeded with (seed, n). They do not depend on earlier steps,
so a run that was killed and continues from its checkpoint ends with the same bytes as one that was not.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, distributed, nn

from foclip.cache import Cache
from foclip.errors import UsageError
from foclip.hardening.pictures import Pictures, augment, perturb, random_start
from foclip.hardening.tower import precision_for

#: Default peak learning rates of image towers with at most so many parameters. FARE (arXiv 2402.12336) uses 1e-5 for
#: ViT-L/14; a higher rate spoils such a tower. The small towers of this package need a rate a hundred times as high.
RATES = {20_000_000: 1e-3, 60_000_000: 1e-4, math.inf: 1e-5}
#: Texts per pass. All passes have as many, because a vector must not depend on which texts were asked for before.
TEXT_ROWS = 8
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


@dataclass(frozen=True, kw_only=True)
class HardenSettings:
    """Settings of a run. Two runs with equal settings on equal pictures give equal weights.

    Attributes:
        min_psnr: Budget of the perturbations in training, in dB at the model's input size.
        least: The radius of each picture is drawn between this share of the largest radius and the largest.
        steps: Training steps.
        batch_size: Pictures per step, over all processes and parts.
        accumulate: Number of parts that a process divides its share of a batch into, to save memory.
        lr: Peak learning rate of AdamW; None to choose it by the size of the tower (`RATES`).
        ascent: Steps of the inner attack (projected gradient ascent).
        aimed: Share of the pictures that are pushed towards a text. The others are pushed away from their embedding.
        seed: Seed of the order of the pictures, their crops, and the random starts.
        precision: "auto" measures at the start which precision is faster on this device.
        checkpointing: Recompute activations in the backward pass instead of keeping them.
        keep: Least mean cosine with the original on clean held-out pictures. Below it nothing is written.
        half: Write float16 weights.

    Raises:
        UsageError: A value is out of its range.
    """

    min_psnr: float = 38.0
    least: float = 0.5
    steps: int = 1000
    batch_size: int = 64
    accumulate: int = 1
    lr: float | None = None
    ascent: int = 1
    aimed: float = 0.5
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpointing: bool = False
    keep: float = 0.9
    half: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.min_psnr < math.inf:
            raise UsageError(f"min_psnr: {self.min_psnr:g}; give a budget in dB above 0")
        for name in ("steps", "batch_size", "accumulate", "ascent"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: {getattr(self, name)}; give at least 1")
        for name in ("least", "aimed"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}: {getattr(self, name):g}; give a share from 0 to 1")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UsageError(f"lr: {self.lr:g}; give a number above 0")
        if not -1 <= self.keep <= 1:
            raise UsageError(f"keep: {self.keep:g}; give a cosine from -1 to 1")


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a run after a step."""

    step: int  # finished steps
    loss: float
    clean: float  # mean cosine of the trained and the original encoder on the clean pictures of the last step
    perturbed: float  # mean cosine of the trained encoder on perturbed pictures with the original on clean ones
    seconds_left: float  # until the end of training, estimated


class Texts:
    """Unit vectors of texts, each computed when it is first asked for: a short run asks for few of a thousand.

    Args:
        encoder: A `foclip.models.Encoder`.
        texts: The texts.
    """

    def __init__(self, encoder: Any, texts: Sequence[str]) -> None:
        self._encoder, self._texts = encoder, texts
        self._vectors: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, places: Tensor) -> Tensor:
        """Vectors (B, D) of the texts at these places (B,)."""
        new = sorted({*places.tolist()} - self._vectors.keys())
        for first in range(0, len(new), TEXT_ROWS):
            some = new[first : first + TEXT_ROWS]
            padded = (some * TEXT_ROWS)[:TEXT_ROWS]
            vectors = self._encoder.encode_texts([self._texts[place] for place in padded])
            self._vectors |= zip(padded, vectors, strict=True)
        return torch.stack([self._vectors[place] for place in places.tolist()])


@dataclass(eq=False)
class Trainer:
    """A training run at some step; a `UsageError` if the checkpoint belongs to a run of another identity."""

    encoder: Any  # the original, a `foclip.hardening.tower.HardenableEncoder`
    tower: nn.Module  # a copy of its image tower, from `foclip.hardening.tower.trainable`
    pictures: Pictures
    texts: Texts  # that pictures are pushed towards
    settings: HardenSettings
    cache: Cache  # holds the checkpoint
    identity: str  # digest of everything that the weights depend on

    def __post_init__(self) -> None:
        self.original: nn.Module = self.encoder.image_tower()
        self.rank, self.ranks = processes()
        self.trained = [p for p in self.tower.parameters() if p.requires_grad]
        self.parameter_count = sum(p.numel() for p in self.trained)
        by_size = next(rate for most, rate in RATES.items() if self.parameter_count <= most)
        self.peak = by_size if self.settings.lr is None else self.settings.lr
        matrices, vectors = ([p for p in self.trained if (p.ndim > 1) == matrix] for matrix in (True, False))
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=self.peak)
        self.step, self.precision = 0, str(self.settings.precision)
        self._resume()

    def _resume(self) -> None:
        state = self.cache.load(CHECKPOINT, self.encoder.device)
        if self.ranks > 1:
            distributed.barrier()  # every process has read it before one writes
        if state is None:
            if self.precision == "auto":
                bfloat16 = self.rank == 0 and precision_for(self.tower, self.encoder) == "bfloat16"
                choice = torch.tensor([float(bfloat16)], device=self.encoder.device)
                if self.ranks > 1:
                    distributed.broadcast(choice, 0)
                self.precision = "bfloat16" if choice.item() else "float32"
            self._save()  # keeps the choice of precision, because a second measurement could end differently
        elif state.get("identity") != self.identity:
            raise UsageError(
                f"{self.cache.path(CHECKPOINT, '.pt')}: belongs to a run with other settings, pictures or weights; "
                "choose another --out, or delete it"
            )
        else:
            self.step, self.precision = state["step"], state["precision"]
            self.tower.load_state_dict(state["tower"])
            self.optimizer.load_state_dict(state["optimizer"])

    def _save(self) -> None:
        """Write the checkpoint, in the first process only."""
        if self.rank == 0:
            states = {"tower": self.tower.state_dict(), "optimizer": self.optimizer.state_dict()}
            known = {"identity": self.identity, "step": self.step, "precision": self.precision}
            self.cache.save(CHECKPOINT, known | states)

    def train(
        self,
        on_progress: Callable[[TrainingProgress], None],
        checkpoint_seconds: float = 120.0,
        stop_after: int | None = None,
        on_step: Callable[[int], None] = lambda step: None,
    ) -> None:
        """Train to the last step, or to step `stop_after`, with a checkpoint every so many seconds and at the end.

        `on_progress` is called every `REPORT_EVERY` steps and after the last one; `on_step` after the other steps.
        """
        steps = self.settings.steps
        last = steps if stop_after is None else min(stop_after, steps)
        module: nn.Module = self.tower
        if self.ranks > 1:
            module = nn.parallel.DistributedDataParallel(self.tower, broadcast_buffers=False)
        first, started, saved = self.step, time.monotonic(), time.monotonic()
        while self.step < last:
            # The rate rises over the first steps, then falls along a cosine.
            rise = min(1.0, (self.step + 1) / max(1.0, WARMUP * steps))
            for group in self.optimizer.param_groups:
                group["lr"] = self.peak * rise * 0.5 * (1 + math.cos(math.pi * (self.step / steps)))
            loss, clean, perturbed = self._update(module)
            self.step += 1
            if self.step % REPORT_EVERY == 0 or self.step == last:
                left = (time.monotonic() - started) / (self.step - first) * (steps - self.step)
                on_progress(TrainingProgress(self.step, loss, clean, perturbed, left))
            else:
                on_step(self.step)
            if time.monotonic() - saved > checkpoint_seconds and self.step < last:
                self._save()
                saved = time.monotonic()
        if self.step > first:
            self._save()

    def _update(self, module: nn.Module) -> tuple[float, float, float]:
        """Make one step; returns the loss, the clean cosine (0 where it is not reported) and the perturbed cosine."""
        self.optimizer.zero_grad(set_to_none=True)
        # The pictures of this process in this step: its share of a batch of the concatenated epochs.
        n, own = len(self.pictures), self.settings.batch_size // self.ranks
        first = self.step * self.settings.batch_size + self.rank * own
        places = torch.stack([_order(self.settings.seed, p // n, n)[p % n] for p in range(first, first + own)])
        parts = torch.chunk(places, self.settings.accumulate)
        totals = [0.0, 0.0, 0.0]
        for number, part in enumerate(parts):
            # Processes exchange gradients once a step, after the last part.
            waits = isinstance(module, nn.parallel.DistributedDataParallel) and number < len(parts) - 1
            with cast(Any, module).no_sync() if waits else nullcontext():
                values = self._part(module, part, number, len(part) / len(places))
            totals = [total + value * len(part) / len(places) for total, value in zip(totals, values, strict=True)]
        nn.utils.clip_grad_norm_(self.trained, LARGEST_GRADIENT)
        self.optimizer.step()
        return totals[0], totals[1], totals[2]

    def _part(self, module: nn.Module, places: Tensor, number: int, weight: float) -> tuple[float, float, float]:
        device, settings = self.encoder.device, self.settings
        draws = generator(settings.seed, self.step, self.rank, number)
        # Towers may have random operations of their own.
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=draws)))
        pictures = augment(self.pictures.levels[places].to(device), self.pictures.enlarged[places], draws)
        n = len(pictures)
        with torch.no_grad():
            targets = self._encode(self.original, pictures)
        chosen = self.texts[torch.randint(len(self.texts), (n,), generator=draws)].to(device)
        aimed = (torch.rand(n, generator=draws) < settings.aimed).to(device)
        share = settings.least + (1 - settings.least) * torch.rand(n, generator=draws)
        largest = 10 ** (-settings.min_psnr / 20) * math.sqrt(pictures[0].numel())
        radius = (largest * share).to(device)
        noise = draws if device.type == "cpu" else generator(settings.seed, self.step, self.rank, number, device=device)
        start, directions = random_start(pictures, radius, noise), torch.where(aimed[:, None], chosen, -targets)
        encode = partial(self._encode, self.tower)
        changed = perturb(encode, pictures, directions, radius, start, settings.ascent)
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


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=generator(seed, "epoch", epoch))


def processes() -> tuple[int, int]:
    """Rank of this process, and the number of all that share the work."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose seed depends on these values alone."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big"))
