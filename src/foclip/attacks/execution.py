"""How an attack is run: how many pictures at once, on how many threads, in which precision."""

from dataclasses import dataclass
from typing import Any, get_args

import torch

from foclip.errors import UsageError
from foclip.models.batching import pass_rows
from foclip.models.precision import Precision, faster_precision
from foclip.models.scorer import EmbeddingScorer, Scorer

#: Slots of a batch unless given: small towers on a CPU, and GPUs, are faster with several pictures.
SLOTS = 4
#: Most slots of a batch.
MOST_SLOTS = 4096


@dataclass(frozen=True)
class Execution:
    """How an attack is run.

    Attributes:
        batch_size: Slots: the number of pictures that go through the model together. The batch size is fixed. If fewer
            pictures than slots are left, the batch is padded. None chooses by the score.
        precision: What the model computes in during the attack. Files are always read in float32.
        compiled: Whether `torch.compile` makes the model faster during the attack; where it cannot, a `CompileWarning`
            says so. On a GPU it uses CUDA graphs.
        workers: Batches at once, each on a thread of its own; None chooses by the score. Results do not depend on it.

    Raises:
        UsageError: A value is out of its range.
    """

    batch_size: int | None = None
    precision: Precision = "float32"
    compiled: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and not 1 <= self.batch_size <= MOST_SLOTS:
            raise UsageError(f"batch_size: {self.batch_size} is no number of pictures from 1 to {MOST_SLOTS}")
        if self.precision not in get_args(Precision):
            raise UsageError(f"precision: {self.precision!r} is none of {', '.join(get_args(Precision))}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers: {self.workers} is no number of batches from 1 up")

    def slots(self, scorer: Scorer) -> int:
        """Pictures that go through the model together."""
        return self.batch_size or pass_rows(scorer, SLOTS, 1)

    def prepared(self, scorer: Scorer) -> Scorer:
        """The scorer in the precision of the attack, compiled or not.

        Raises:
            UsageError: The scorer computes in float32 only.
        """
        if self.precision == "float32" and not self.compiled:
            return scorer
        view: Any = getattr(scorer, "in_precision", None)
        if view is None:
            raise UsageError(f"precision: {scorer.info.name} computes in float32, uncompiled; leave both options out")
        found: Scorer = view(None if self.precision == "float32" else torch.bfloat16, self.compiled)
        return found


def default_workers(scorer: Scorer) -> int:
    """Batches at once: one per core where a model is too small to use a second core, else one."""
    return torch.get_num_threads() if pass_rows(scorer, SLOTS, 1) > 1 and scorer.device.type == "cpu" else 1


def threads_per_batch(scorer: Scorer) -> int:
    """Threads of a pass, however many batches there are at once: another number of threads rounds differently."""
    return 1 if pass_rows(scorer, SLOTS, 1) > 1 and scorer.device.type == "cpu" else torch.get_num_threads()


def fastest_precision(execution: Execution, scorer: EmbeddingScorer) -> tuple[Precision, float]:
    """The faster precision on this device, and how many times as fast bfloat16 is as float32.

    It is measured, since no name of a device tells it: processors without instructions for bfloat16 are many times
    slower in it than in float32, others are twice as fast. A forward and backward pass of the image tower is timed,
    with as many rows as the attack has; compiled, which takes minutes, if the attack is.
    """
    size = scorer.preprocess.size
    inputs = torch.zeros(execution.slots(scorer), 3, *size, device=scorer.device, requires_grad=True)

    def run(dtype: torch.dtype | None) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            embeddings = scorer.in_precision(dtype, execution.compiled).embed(inputs)
            return torch.autograd.grad(embeddings[:, 0].sum(), inputs)[0]

    return faster_precision(run)
