r"""Other people's detectors, re-implemented from their papers, to be compared with ours on the same pictures.

Each gives one number per picture, larger for pictures that look fooled. They were made for classifiers or for
zero-shot classification. Where a paper needs a prediction, ours is CLIP's own: a softmax over a thousand captions. What
we had to choose:

- *gray*: the paper's rule (arXiv 2511.06947) as one number, min(drop / τ₁, drift / τ₂), with the thresholds of our
  detector file.
- *squeezing* (Xu, Evans and Qi 2018, arXiv 1704.01155): the largest L1 distance between the prediction and those after
  squeezing, by 5 bits of depth and a 2 × 2 median, the authors' best for ImageNet but for non-local means, which we
  leave out.
- *JPEG*: how much of the score is lost at quality 75, relatively. As a defence it is Das et al.'s (2018, arXiv
  1802.06816); as a detector it is folklore.
- *padding* (TTP, Li et al. 2025, arXiv 2512.16523): 1 - cosine between the embeddings before and after a black frame
  is put around the picture. The authors' frame is 20 to 30 of 224 pixels wide; we scale the result to its old size.
- *direction* (DBD, Liu et al. 2026, arXiv 2606.06186): transformations move the embeddings of an adversarial picture in
  one direction. The DB-score is the mean cosine between each shift and their mean, over the half of the views with the
  least entropy. The authors draw 31 views; we take eight of ours, of the same kinds, and unit vectors.
- *two encoders*: by how much the score exceeds that of a second encoder.
- *guessed caption*: how unlike the prompt is what the second encoder (if there is none, the encoder itself) sees: 1 -
  cosine between prompt and caption, expected over its prediction. MirrorCheck (arXiv 2406.09250) generates a picture
  from the caption, and compares with that; we have no generator.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foclip.data.prompts import Prompts
from foclip.detection import Prober, TwoThresholds, drift, drop
from foclip.detection.adaptive import Evading
from foclip.detection.probes import ROWS, caption_vectors
from foclip.models.batching import figures
from foclip.models.scorer import EmbeddingScorer, Targets
from foclip.models.surroundings import undisturbed
from foclip.studies.harness.context import PromptsOf, StudyContext
from foclip.studies.harness.pictures import Picture

#: Squeezers and views, by their names in `foclip.detection.transformations`.
SQUEEZERS = ("depth5", "median")
VIEWS = ("crop", "crop+mirror", "rotate", "bits", "jpeg75", "blur", "rescale", "median")


class Look(NamedTuple):
    """What one encoder makes of a picture, and of the picture under V probes."""

    vectors: Tensor  # unit vectors (1 + V, D)
    scores: Tensor  # mean figures over the prompts (1 + V,)
    guesses: Tensor  # probabilities of a thousand captions (1 + V, C)


class Seen(NamedTuple):
    """All that a baseline is told of a picture."""

    own: Look
    second: Look | None  # of the second encoder, without probes; None if there is none
    unlike: Tensor  # 1 - cosine of each caption with the prompts, their mean (C,)
    floor: float  # the score's figure for "no match"


class Baseline(NamedTuple):
    """A detector of other people."""

    probes: tuple[str, ...]  # the transformations that it takes
    suspicion: Callable[[Seen], Tensor]  # a number, differentiable
    second: bool = False  # whether it looks through the second encoder
    settings: object = None  # what else its numbers depend on


def known_baselines(rule: TwoThresholds, second: EmbeddingScorer | None) -> dict[str, Baseline]:
    """All of them by name, with the paper's thresholds; those that need a second encoder, if there is one."""

    def gray(seen: Seen) -> Tensor:
        return torch.minimum(_drop(seen) / rule.tau1, _drift(seen) / rule.tau2)

    found = {
        "gray": Baseline(("gray",), gray, settings=rule),
        "squeezing": Baseline(SQUEEZERS, _squeezing),
        "JPEG": Baseline(("jpeg75",), _drop),
        "padding": Baseline(("framed",), _drift),
        "direction": Baseline(VIEWS, _direction),
    }
    if second:
        found["two encoders"] = Baseline((), _disagreement, second=True)
    return found | {"guessed caption": Baseline((), _guessed, second=second is not None)}


def _drop(seen: Seen) -> Tensor:
    return drop(seen.own.scores[0], seen.own.scores[1], seen.floor)


def _drift(seen: Seen) -> Tensor:
    return drift(seen.own.vectors[0], seen.own.vectors[1])


def _squeezing(seen: Seen) -> Tensor:
    return (seen.own.guesses[1:] - seen.own.guesses[0]).abs().sum(dim=1).amax()


def _direction(seen: Seen) -> Tensor:
    shifts, guesses = seen.own.vectors[1:] - seen.own.vectors[0], seen.own.guesses[1:]
    entropy = -(guesses * guesses.clamp(min=1e-12).log()).sum(dim=1)
    surest = shifts[entropy.argsort()[: len(shifts) // 2]]
    return torch.cosine_similarity(surest, surest.mean(dim=0, keepdim=True)).mean()


def _disagreement(seen: Seen) -> Tensor:
    assert seen.second
    return seen.own.scores[0] - seen.second.scores[0]


def _guessed(seen: Seen) -> Tensor:
    guesses = (seen.second or seen.own).guesses[0]
    return guesses @ seen.unlike.to(guesses)


def _look(scorer: EmbeddingScorer, vectors: Tensor, targets: Targets) -> Look:
    assert isinstance(targets, Tensor)  # those of scores over one encoder
    targets = targets.to(vectors.device)
    scores = figures(scorer, scorer.compare(vectors, targets)).mean(dim=-1)
    cosines = vectors @ caption_vectors(scorer.encoder).to(vectors).T
    return Look(vectors, scores, (cosines / scorer.info.temperature).softmax(dim=-1))


def _unlike(scorer: EmbeddingScorer, texts: Tensor) -> Tensor:
    """Of unit vectors of prompts (T, D)."""
    return 1 - (caption_vectors(scorer.encoder) @ texts.cpu().T).mean(dim=1)


class BaselineAwareScore(Evading):
    """For attackers who know a baseline, its threshold, and how far its numbers for clean pictures scatter."""

    def __init__(
        self,
        scorer: EmbeddingScorer,
        name: str,
        baseline: Baseline,
        threshold: float,
        scatter: float,
        second: EmbeddingScorer | None,
    ) -> None:
        self.baseline, self.threshold, self.scatter = baseline, threshold, scatter
        others = [second] if baseline.second and second else []
        super().__init__(scorer, baseline.probes, others, (name, baseline.settings, threshold, scatter))

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Any, ...]:
        """As `Evading`, and then the vectors of the prompts as texts."""
        return (*super().encode_prompts(prompts), self.scorer.encoder.encode_texts(prompts))

    def suspicion(self, vectors: Tensor, others: Sequence[Tensor], targets: Targets) -> Tensor:
        """In units of the scatter."""
        own, *theirs, texts = targets
        second = _look(self.others[0], others[0], theirs[0]) if self.others else None
        seen = Seen(_look(self.scorer, vectors, own), second, _unlike(self.scorer, texts), self.info.floor)
        return (self.baseline.suspicion(seen) - self.threshold) / self.scatter


def suspicions(
    context: StudyContext,
    known: Mapping[str, Baseline],
    second: EmbeddingScorer | None,
    pictures: Sequence[Picture],
    prompts: PromptsOf,
) -> list[dict[str, float]]:
    """What each baseline says of pictures as files."""
    scorer, wanted = context.score, context.prompts_of(pictures, prompts)
    names = list(dict.fromkeys(probe for baseline in known.values() for probe in baseline.probes))
    prober, further = Prober(scorer), Prober(second) if second else None

    @undisturbed()
    @torch.no_grad()
    def measure(places: list[int]) -> list[dict[str, float]]:
        views = [prober.preprocess(pictures[place].image) for place in places]
        own = torch.cat([prober.embed(views)[:, None], prober.embed_under(names, views, ROWS)], dim=1)
        seconds: list[Look | None] = [None] * len(places)
        if further:
            theirs = torch.split(further.embed([further.preprocess(pictures[place].image) for place in places]), 1)
            targets = [further.targets(wanted[place]) for place in places]
            seconds = [_look(further.scorer, *each) for each in zip(theirs, targets, strict=True)]
        asked = [wanted[place] for place in places]
        return [tell(*each) for each in zip(own, seconds, asked, strict=True)]

    def tell(vectors: Tensor, second: Look | None, asked: Prompts) -> dict[str, float]:
        look = _look(scorer, vectors, prober.targets(asked))
        unlike = _unlike(scorer, scorer.encoder.encode_texts(asked))
        told = {}
        for name, baseline in known.items():
            at = [0, *(1 + names.index(probe) for probe in baseline.probes)]
            seen = Seen(Look(*(each[at] for each in look)), second, unlike, scorer.info.floor)
            told[name] = float(baseline.suspicion(seen))
        return told

    kind = f"baselines {[(name, each.probes, each.settings) for name, each in known.items()]} "
    kind += f"{second and second.fingerprint}"
    return context.measured(kind, pictures, wanted, scorer, measure)
