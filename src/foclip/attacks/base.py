"""What an attack is: pictures and prompts in, 8-bit pictures that score higher out.

`Attack.run` drives every attack. It keeps a fixed number of lanes in
flight through the image tower; each lane carries one picture of any size from
its first to its last step, and the next picture takes over a lane that has
finished. The tower always sees a full batch (idle lanes are black), because
kernels chosen for another batch size round differently: so a picture's result
depends on nothing but the picture, its prompts, the attack and the encoder.

What an attack adds is `update`: how a picture moves, given the gradient of the
objective or, for a black-box attack, nothing but the values seen so far. One
step is one query of the encoder per picture (and one per view) in either case.
"""

import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby, repeat
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from foclip.attacks.checkpoints import Checkpoints
from foclip.encoders import DualEncoder
from foclip.encoders.preprocessing import round8
from foclip.errors import UsageError
from foclip.images import to_image
from foclip.objective import QUANTUM, Alignment, Objective
from foclip.score import clip_score, similarity

#: Pictures in flight by default: small towers on a CPU, and GPUs, are faster with several.
BATCH_SIZE = 4
#: Above this many parameters a CPU gains little from a batch.
LARGE_MODEL = 50_000_000

#: Called once a step with the lanes in flight.
StepCallback = Callable[[Sequence["Trajectory"]], None]


class View(Protocol):
    """A differentiable transformation of a picture that the objective sees beside the picture itself.

    Its `repr` must say all that it does: it is written into configurations,
    and unfinished work is found again by it. A frozen dataclass has such a one.
    """

    def __call__(self, picture: Tensor) -> Tensor:
        """The transformed picture.

        Args:
            picture: float (1, 3, H, W) in [0, 1].

        Returns:
            float (1, 3, any height, any width); what lies outside [0, 1] is clamped.
        """


@dataclass
class Trajectory:
    """One picture on its way.

    Attributes:
        index: Its place among the pictures given to `Attack.run`.
        original: float (3, H, W) in [0, 1].
        texts: Unit vectors (T, D) of its prompts.
        pixels: The picture as optimised, float (3, H, W); may lie outside [0, 1].
        seed: Differs from picture to picture; made of the attack's seed and the picture's content.
        scratch: Room for one more picture; fresh memory at every step costs more than filling it.
        step: Updates made so far.
        best: Best 8-bit iterate so far, float (3, H, W) of whole levels / 255, or None.
        best_loss: Objective of `best`.
        losses: Objective of the 8-bit iterate at every step.
        scores: Mean CLIPScore (w = 2.5) of the 8-bit iterate at every step.
        memory: What the attack carries from step to step, by name; saved in checkpoints.
        search: State of an attack that cannot be saved, which it builds again from `losses`.
        reach: How much of the way to the budget's edge the projection leaves, below 1.
        seconds: Time spent so far.
    """

    index: int
    original: Tensor
    texts: Tensor
    pixels: Tensor
    seed: int
    scratch: Tensor
    step: int = 0
    best: Tensor | None = None
    best_loss: float = math.inf
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    memory: dict[str, Tensor] = field(default_factory=dict)
    search: Any = None
    reach: float = 0.999
    seconds: float = 0.0
    stopped_by: Literal["target", "steps", ""] = ""
    key: str = ""

    def buffer(self, name: str) -> Tensor:
        """The tensor of this name in `memory`; zeros of the picture's shape when first asked for."""
        if name not in self.memory:
            self.memory[name] = torch.zeros_like(self.original)
        return self.memory[name]

    def distance(self, picture: Tensor) -> Tensor:
        """Euclidean distance of a picture (3, H, W) from the original; uses `scratch`."""
        return torch.as_tensor(torch.linalg.vector_norm(torch.sub(picture, self.original, out=self.scratch)))


@dataclass(frozen=True)
class Fooled:
    """The result for one picture.

    Attributes:
        index: Its place among the pictures given to `Attack.run`.
        pixels: uint8 (3, H, W), the best iterate within the fidelity budget.
        scores: Mean CLIPScore of the 8-bit iterate at steps 0, 1, …
        steps: Updates made.
        stopped_by: "target" or "steps".
        seconds: Time from its first to its last step.
    """

    index: int
    pixels: Tensor
    scores: list[float]
    steps: int
    stopped_by: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack on the similarity of pictures with prompts.

    Attributes:
        name: What the command line and `config` call it.
        uses_gradient: Whether `update` needs the gradient; a black-box attack does not.
        objective: What is minimised.
        steps: Updates per picture at most.
        target: Stop once the mean CLIPScore (w = 2.5) of the 8-bit picture,
            through the model's own preprocessing, reaches this.
        min_psnr: Fidelity budget in dB that the result never violates; None for none.
        init: Start from the picture itself or from uniform noise of its size.
        seed: Seeds what is random, together with the picture's content.
        batch_size: Pictures in flight; None chooses by the encoder (`default_batch_size`).
        views: With views, the objective gets the mean of the cosines of the
            picture and of its 8-bit views: the adaptive attack on a score or a
            detector that looks at transformed pictures too. `target` and the
            recorded scores stay those of the picture itself.

    Raises:
        UsageError: A value is out of its range, or a budget is set for a noise start.
    """

    name: ClassVar[str]
    uses_gradient: ClassVar[bool] = True

    objective: Objective = field(default_factory=Alignment)
    steps: int = 1000
    target: float | None = None
    min_psnr: float | None = None
    init: Literal["image", "noise"] = "image"
    seed: int = 0
    batch_size: int | None = None
    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UsageError(f"steps: {self.steps} is negative")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch_size: {self.batch_size} is less than 1")
        if self.min_psnr is not None and not 0 < self.min_psnr < math.inf:
            raise UsageError(f"min_psnr: {self.min_psnr} is no budget in dB above 0")
        if self.min_psnr is not None and self.init == "noise":
            raise UsageError("min_psnr: a start from noise has no original to stay close to; leave the budget out")

    def config(self) -> dict[str, Any]:
        """Every setting as plain JSON values, to write beside a result."""
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        as_text = {"objective": str(self.objective), "views": [repr(view) for view in self.views]}
        return {"attack": self.name} | settings | as_text

    @abstractmethod
    def update(self, trajectory: Trajectory, gradient: Tensor) -> None:
        """Move `trajectory.pixels` in place.

        Args:
            trajectory: The picture, its last value in `losses`.
            gradient: The objective's gradient (3, H, W), which may be
                overwritten; a mere 0 unless the attack `uses_gradient`.
        """

    @property
    def budget(self) -> float | None:
        """Largest mean squared change in [0, 1] units that `min_psnr` allows."""
        return None if self.min_psnr is None else 10 ** (-self.min_psnr / 10)

    def run(
        self,
        encoder: DualEncoder,
        pictures: Iterable[Tensor],
        texts: Tensor | Iterable[Tensor],
        on_step: StepCallback | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Iterator[Fooled]:
        """Attack pictures of any sizes; yields each as it finishes.

        Args:
            encoder: The encoder to fool.
            pictures: uint8 (3, H, W) each; read one by one as lanes get free.
            texts: Unit vectors (T, D) of prompts for all pictures, or one such tensor per picture.
            on_step: Called after every step with the lanes in flight.
            checkpoints: Where unfinished pictures are kept for a later run.

        Yields:
            One `Fooled` per picture, in the order they finish.
        """
        count = self.batch_size or default_batch_size(encoder)
        queue = enumerate(zip(pictures, repeat(texts) if isinstance(texts, Tensor) else texts, strict=False))
        lanes: list[Trajectory] = []
        try:
            while True:
                while len(lanes) < count and (entry := next(queue, None)) is not None:
                    lanes.append(self._start(encoder, *entry, checkpoints))
                    lanes.sort(key=lambda lane: len(lane.texts))
                if not lanes:
                    return
                started = time.perf_counter()
                self._step(encoder, lanes, count)
                elapsed = (time.perf_counter() - started) / len(lanes)
                for lane in lanes:
                    lane.seconds += elapsed
                if on_step:
                    on_step(lanes)
                for lane in [lane for lane in lanes if lane.stopped_by]:
                    lanes.remove(lane)
                    yield self._finish(lane)
                    if checkpoints:
                        checkpoints.discard(lane.key)
                if checkpoints and checkpoints.due():
                    checkpoints.save(lanes)
        except (KeyboardInterrupt, GeneratorExit):
            if checkpoints:
                checkpoints.save(lanes)
            raise

    def _start(
        self, encoder: DualEncoder, index: int, entry: tuple[Tensor, Tensor], checkpoints: Checkpoints | None
    ) -> Trajectory:
        picture, texts = entry
        digest = hashlib.sha256(repr((self.seed, tuple(picture.shape))).encode())
        digest.update(picture.cpu().contiguous().numpy().tobytes())
        seed = int.from_bytes(digest.digest()[:7], "big")
        digest.update(texts.cpu().numpy().tobytes())
        digest.update(f"{replace(self, batch_size=None)} {encoder.fingerprint}".encode())
        original = picture.to(encoder.device).float() / 255
        pixels = original.clone()
        if self.init == "noise":
            generator = torch.Generator().manual_seed(seed)
            pixels = torch.rand(picture.shape, generator=generator).to(encoder.device)
        lane = Trajectory(
            index,
            original,
            texts.to(encoder.device),
            pixels,
            seed=seed,
            scratch=torch.empty_like(pixels),
            key=digest.hexdigest(),
        )
        if checkpoints:
            checkpoints.restore(lane)
        return lane

    def _step(self, encoder: DualEncoder, lanes: Sequence[Trajectory], count: int) -> None:
        """Evaluate every lane's 8-bit picture, keep the best, and move on those not done."""
        leaves = [lane.pixels.requires_grad_(self.uses_gradient) for lane in lanes]
        pictures = [round8(leaf) for leaf in leaves]
        features = seen = _encode(encoder, pictures, count)
        for view in self.views:
            seen = seen + _encode(encoder, [round8(view(picture[None]))[0] for picture in pictures], count)
        losses, scores = [], []
        # Lanes are sorted by their number of prompts; those of one number share the small operations.
        for _, group in groupby(range(len(lanes)), key=lambda i: len(lanes[i].texts)):
            places = list(group)
            cosines = own = torch.cat([similarity(features[i : i + 1], lanes[i].texts) for i in places])
            if self.views:  # the sum's cosines are the sums of the cosines
                cosines = torch.cat([similarity(seen[i : i + 1], lanes[i].texts) for i in places])
                cosines = cosines / (1 + len(self.views))
            losses.append(self.objective(cosines, [leaves[i] for i in places], [lanes[i].original for i in places]))
            scores.append(clip_score(own.detach()).mean(dim=1))
        loss = torch.cat(losses)
        gradients: Sequence[Tensor] = [loss.new_zeros(())] * len(lanes)
        if self.uses_gradient:
            gradients = torch.autograd.grad(loss.sum(), leaves)
        with torch.no_grad():
            changes = [lane.distance(picture) for lane, picture in zip(lanes, pictures, strict=True)]
            values = torch.stack([loss, torch.cat(scores), torch.stack(changes)]).tolist()
            for lane, picture, gradient, value, score, change in zip(lanes, pictures, gradients, *values, strict=True):
                lane.pixels.requires_grad_(False)
                self._judge(encoder, lane, picture, value, score, change**2 / picture.numel())
                if not lane.stopped_by:
                    self.update(lane, gradient)
                    self._project(lane)
                    lane.step += 1

    def _judge(
        self, encoder: DualEncoder, lane: Trajectory, picture: Tensor, loss: float, score: float, change: float
    ) -> None:
        """Record the iterate, keep it if it is the best one allowed, and decide whether to stop."""
        # Whatever a step that was interrupted had recorded is replaced.
        lane.losses[lane.step :] = [loss]
        lane.scores[lane.step :] = [score]
        # A hair below the budget, so that float32 sums cannot let the file slip under min_psnr.
        allowed = self.budget is None or change <= self.budget * (1 - 1e-5)
        if allowed and loss < lane.best_loss:
            lane.best, lane.best_loss = picture.detach(), loss
        if not allowed:  # changes of nearly one size, as sign steps make, may all round up: stay further inside
            lane.reach *= 0.995
        if allowed and self.target is not None and score >= self.target:
            features = encoder.encode_pictures([to_image(_levels(picture))])
            if clip_score(similarity(features, lane.texts)).mean() >= self.target:
                lane.best, lane.best_loss, lane.stopped_by = picture.detach(), loss, "target"
        if lane.step >= self.steps and not lane.stopped_by:
            lane.stopped_by = "steps"

    def _project(self, lane: Trajectory) -> None:
        """Pull the picture back into the ball around its original that the budget allows."""
        if self.budget is None:
            return
        # Rounding adds QUANTUM² to the mean squared change on average; leave room for it.
        radius = math.sqrt(max(self.budget - QUANTUM**2, self.budget / 4) * lane.pixels.numel())
        shrink = (lane.reach * radius / lane.distance(lane.pixels)).clamp(max=1)
        torch.lerp(lane.original, lane.pixels, shrink, out=lane.pixels)

    @staticmethod
    def _finish(lane: Trajectory) -> Fooled:
        assert lane.best is not None  # step 0 is within any budget, and later steps only improve on it
        return Fooled(lane.index, _levels(lane.best).cpu(), lane.scores, lane.step, lane.stopped_by, lane.seconds)


def _levels(picture: Tensor) -> Tensor:
    """An 8-bit picture, float in [0, 1], as uint8."""
    return (picture * 255).round().to(torch.uint8)


def _encode(encoder: DualEncoder, pictures: Sequence[Tensor], count: int) -> Tensor:
    """Unit vectors of pictures (3, H_i, W_i), from a batch of `count` whose other places are black."""
    inputs = torch.cat([encoder.preprocess(picture[None]) for picture in pictures])
    if len(pictures) < count:
        inputs = torch.cat([inputs, inputs.new_zeros(count - len(pictures), *inputs.shape[1:])])
    return encoder.encode_inputs(inputs)


def default_batch_size(encoder: DualEncoder) -> int:
    """Pictures in flight for an encoder: one for a large model on a CPU, else `BATCH_SIZE`."""
    large_on_cpu = encoder.device.type == "cpu" and encoder.parameters > LARGE_MODEL
    return 1 if large_on_cpu else BATCH_SIZE
