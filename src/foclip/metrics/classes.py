"""The metrics as torchmetrics classes: sums in states, which torchmetrics adds up over batches and processes."""

import sys
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor
from torchmetrics import Metric

from foclip.core.detecting import BatchDetector
from foclip.detection.detector import Detector, shipped
from foclip.detection.probes import Prober, over_hardened
from foclip.errors import UsageError
from foclip.metrics.functional import Captions, Pictures, Sums, clip_score_sums, means, robust_sums, score_sums
from foclip.models.batching import TargetCache
from foclip.models.encoder import Encoder
from foclip.models.registry import load_encoder, resolve
from foclip.models.scorer import Scorer as AnyScorer
from foclip.models.scores.clip import SCALE
from foclip.models.scores.clip import CLIPScore as Scorer

#: Threads that update one metric add their sums one at a time.
_ADDING = Lock()
#: Wrappers of torchmetrics that index tensors but not captions, so that pictures would get the captions of others.
_SPLITTING = {f"torchmetrics.wrappers.{name}" for name in ("bootstrapping", "multioutput")}


class _Means(Metric):  # type: ignore[misc]  # torchmetrics is not checked here
    """Means over pictures, whose states are sums."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def _start(self, *totals: str) -> None:
        for name in totals:
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        # A `MetricCollection` updates only one of the metrics that have the same states after the first batch. But two
        # scales agree there on a score of 0, two detectors on clean pictures. Of two metrics this state is never equal.
        self.add_state("_setup", torch.tensor(list(uuid4().bytes)), dist_reduce_fx="max")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> "_Means":
        """Sums go to another device, but to no other precision: Lightning's `bf16-true` would round them."""
        return super()._apply(lambda value: value.to(fn(value).device), exclude_state)  # type: ignore[no-any-return]

    def _add(self, sums: Sums) -> None:
        with _ADDING:
            for name, value in sums.items():
                setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, Tensor]:
        """Means over all pictures, as `foclip.metrics.functional.means`."""
        return means({name: getattr(self, name) for name in self._defaults if name != "_setup"})

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """A matplotlib figure and axis of values of `compute`; None: of the present one."""
        return self._plot(val, ax)


class CLIPScore(_Means):
    """Mean CLIPScore over all pictures seen.

    Args:
        encoder: An encoder or its name.
        scale: The weight w: 2.5 (Hessel et al. 2021), 100 in torchmetrics, which clamps only the mean.
        prefix: What comes before each caption: "A photo depicts" in the paper, nothing in torchmetrics.
        **options: Those of `torchmetrics.Metric`.
    """

    def __init__(self, encoder: Encoder | str = "mini", scale: float = SCALE, prefix: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._prober = Prober(Scorer(_loaded(encoder), scale, prefix))
        self._start("clip_score")

    def update(
        self, pictures: Pictures, captions: Captions | None = None, caption_list: Captions | None = None
    ) -> None:
        """Add pictures with their captions, one each; a `UsageError` as of `foclip.metrics.clip_score`.

        `caption_list` is what pyiqa calls the captions.
        """
        _refuse_splitting()
        self._add(clip_score_sums(self._prober, pictures, _one_of(captions, caption_list)))

    def compute(self) -> Tensor:  # type: ignore[override]
        """The mean; NaN if nothing was added."""
        return super().compute()["clip_score"]


class MeanScore(_Means):
    """Mean of any score over all pictures seen.

    Args:
        score: A name that `foclip scores` lists, or a scorer.
        model: What `--model` names: an encoder, its name, or the model of that score; nothing with a scorer.
        **options: Those of `torchmetrics.Metric`.

    Raises:
        UsageError: There is no such score, or it needs another model.
    """

    def __init__(self, score: str | AnyScorer, model: Encoder | str = "mini", **options: Any) -> None:
        super().__init__(**options)
        self._scorer = resolve(model, score) if isinstance(score, str) else resolve(score)
        self._targets = TargetCache(self._scorer)
        self._start("score")

    def update(
        self, pictures: Pictures, captions: Captions | None = None, caption_list: Captions | None = None
    ) -> None:
        """Add pictures with their captions, as to a `CLIPScore`; without any where the score needs none."""
        _refuse_splitting()
        asked = _one_of(captions, caption_list) if (captions, caption_list) != (None, None) else None
        self._add(score_sums(self._scorer, self._targets, pictures, asked))

    def compute(self) -> Tensor:  # type: ignore[override]
        """The mean; NaN if nothing was added."""
        return super().compute()["score"]


class RobustCLIPScore(_Means):
    """CLIPScore that says how far it can be trusted.

    Args:
        encoder: An encoder or its name.
        detector: Calibrated on that encoder; None for the one that comes with it.
        scale: The weight w.
        hardened: A hardened version of the encoder, or its name: it scores each picture, too, and what it does not find
            is reported as gap.
        **options: Those of `torchmetrics.Metric`.

    Raises:
        UsageError: The detector belongs to another encoder, or none comes with this one; or so does `hardened`.
    """

    def __init__(
        self,
        encoder: Encoder | str = "mini",
        detector: Detector | None = None,
        scale: float = SCALE,
        hardened: Encoder | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        scorer = Scorer(_loaded(encoder), scale)
        self._judge = BatchDetector(detector or shipped(scorer.encoder), scorer)
        self._hardened = None if hardened is None else Prober(over_hardened(scorer, _loaded(hardened)))
        self._start("clip_score", "tampered", "robust_clip_score", *(["hardened_score"] if self._hardened else []))

    def update(
        self, pictures: Pictures, captions: Captions | None = None, caption_list: Captions | None = None
    ) -> None:
        """Add pictures with their captions, one each, as to a `CLIPScore`."""
        _refuse_splitting()
        self._add(robust_sums(self._judge, self._hardened, pictures, _one_of(captions, caption_list)))


def _one_of(captions: Captions | None, caption_list: Captions | None) -> Captions:
    given = [each for each in (captions, caption_list) if each is not None]
    if len(given) != 1:
        raise UsageError("captions: give one for each of the pictures, once")
    return given[0]


def _refuse_splitting() -> None:
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        if caller.f_globals.get("__name__") in _SPLITTING:
            raise UsageError(
                "metrics: BootStrapper and MultioutputWrapper would mix up pictures and captions; "
                "wrap torchmetrics.MeanMetric, and give it the scores of foclip.score"
            )
        frame = caller


def _loaded(encoder: Encoder | str) -> Encoder:
    return load_encoder(encoder) if isinstance(encoder, str) else encoder
