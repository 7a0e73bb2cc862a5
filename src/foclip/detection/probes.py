r"""Sensitivities: how far score and embedding of a picture move under a transformation.

FoCLIP (arXiv 2511.06947) finds that fooled pictures lose most of their score in
grayscale (63.2 %, originals 8.5 %).

For a picture with mean figure :math:`s` over its prompts, :math:`s'` once
transformed, and embeddings :math:`E, E'`:

.. math:: \text{drop} = \frac{s - s'}{\max(s, s', s_0)}, \qquad \text{drift} = 1 - \cos(E, E')

Where the score matters (:math:`s \ge s_0`, and transforming does not raise it) the drop
is the paper's ratio. Below :math:`s_0`, the score's `floor` (0.25 for CLIPScore: a cosine of 0.1), it says
"no match", and its relative changes are noise: there the drop is the absolute
change in units of :math:`s_0`. It lies in [-1, 1].

What a cheat gained for a picture's own caption hides in that ratio: the picture had a score before, and a drop from
0.65 to 0.35 is not much larger than what a clean picture loses of 0.35. Beside the ratio stands therefore what is lost,

.. math:: \text{lost} = \frac{s - s'}{s_0}

in units that do not depend on the score's scale.

Without prompts they can be guessed: a picture made to score high for a caption fits that caption best. What its cosine
with the best-fitting of a thousand captions loses, in units of `NO_MATCH`, tells far more than how far the embedding
moves in any direction.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foclip.data.prompts import ARTWORKS, imagenet
from foclip.detection.transformations import transformation
from foclip.models import Encoder
from foclip.models.scores import EmbeddingScore, Prompts
from foclip.models.scores.clip import NO_MATCH

Item = TypeVar("Item")

#: The same score over hardened twins of an encoder, by their names: those are also the names of the looks through them.
HardenedScores = Mapping[str, EmbeddingScore]
NO_HARDENED: HardenedScores = MappingProxyType({})
#: Rows (pictures, and pictures transformed) per pass through the image tower: all pictures, those that take the first
#: probe of a cascade, and the few that take a further one. A pass that is not full is padded, and paid for in full.
ROWS, SOME_ROWS, FEW_ROWS = 32, 16, 4
#: A picture in which the model sees channels differ by at most this many 8-bit levels is gray already.
GRAY_LEVELS = 2


def drop(score: Tensor, transformed: Tensor, floor: float) -> Tensor:
    """Relative loss of score, elementwise, in [-1, 1]; see the module's equation.

    Args:
        score: Mean figure of pictures, any shape.
        transformed: That of the transformed pictures, same shape.
        floor: The score's figure for "no match".

    >>> drop(torch.tensor([1.0, 0.01, 0.0]), torch.tensor([0.4, 0.0, 0.0]), 0.25)
    tensor([0.6000, 0.0400, 0.0000])
    """
    return (score - transformed) / torch.maximum(score, transformed).clamp(min=floor)


def drift(embedding: Tensor, transformed: Tensor) -> Tensor:
    """1 - cosine between unit vectors (…, D) and those of the transformed pictures: (…,), in [0, 2]."""
    return (1 - (embedding * transformed).sum(dim=-1)).clamp(min=0)


@dataclass(frozen=True)
class Sensitivity:
    """What was measured of one picture.

    Attributes:
        gray_already: The picture, as the model sees it, has no colour to lose (`GRAY_LEVELS`).
        drifts: Drift per transformation, and to the embedding of each twin.
        score: Mean figure over the prompts; None without prompts.
        scores: Mean figure of the transformed picture, per transformation; empty without prompts.
        drops: Drop per transformation; empty without prompts.
        lost: Score lost per transformation in units of `floor`; empty without prompts.
        level: Score in units of `floor`.
        guess: Of the captions of `guesses`, the one that the picture fits best; None unless it was asked for.
        guess_level: Cosine with it, in units of `NO_MATCH`.
        guesses: What that cosine loses per transformation, in the same units.
    """

    gray_already: bool
    drifts: dict[str, float]
    score: float | None
    scores: dict[str, float]
    drops: dict[str, float]
    lost: dict[str, float] = field(default_factory=dict)
    level: float = 0.0
    guess: str | None = None
    guess_level: float = 0.0
    guesses: dict[str, float] = field(default_factory=dict)

    def without_prompts(self) -> "Sensitivity":
        """What is known of the picture without its prompts."""
        return replace(self, score=None, scores={}, drops={}, lost={}, level=self.guess_level)

    def and_then(self, further: "Sensitivity") -> "Sensitivity":
        """With what further looks at the same picture found."""
        return replace(
            self,
            drifts=self.drifts | further.drifts,
            scores=self.scores | further.scores,
            drops=self.drops | further.drops,
            lost=self.lost | further.lost,
            guesses=self.guesses | further.guesses,
        )


class ProbeSession:
    """Pictures that are looked at again and again; each is resized and embedded once.

    Every pass through the tower has a fixed number of rows, so what is found of a picture does not depend on the
    other pictures.

    Args:
        score: Any score over an encoder.
        pictures: RGB pictures of any sizes; one of the model's own size is looked at as it is.
        prompts: The prompts of each; an empty tuple for none.
        twins: What looks through the encoder's hardened twins.
        guess: Whether the caption that fits best is looked for, too; the first time that embeds a thousand of them.
        draw: With which number the probes' amounts are drawn (`transformation`); None for the usual ones.

    Attributes:
        found: What is known of each picture so far.
    """

    def __init__(
        self,
        score: EmbeddingScore,
        pictures: Sequence[Image.Image],
        prompts: Sequence[Prompts],
        twins: HardenedScores = NO_HARDENED,
        guess: bool = False,
        draw: int | None = None,
    ) -> None:
        self.score, self.prompts, self.twins, self.guess, self.draw = score, prompts, twins, guess, draw
        self.pictures = _each(score.encoder.resize, pictures)
        levels = _levels(self.pictures)
        gray = _gray(levels)
        self.embeddings = _embedded(score, levels, ROWS)
        self.found = _told(score, gray, self.embeddings[:, None], (), prompts, guess)

    def probe(self, name: str, places: Sequence[int], rows: int = FEW_ROWS) -> None:
        """Take one more look at some of the pictures.

        Args:
            name: A transformation's, or a twin's.
            places: Which pictures.
            rows: Rows of each pass.
        """
        chosen = [self.pictures[place] for place in places]
        if not chosen:
            return
        if twin := self.twins.get(name):
            seen = _embedded(twin, _levels(_each(twin.encoder.resize, chosen)), rows)
        else:
            seen = _embedded(self.score, _levels(_each(transformation(name, self.draw).exact, chosen)), rows)
        pairs = torch.stack([self.embeddings[list(places)], seen], dim=1)
        gray, prompts = [self.found[place].gray_already for place in places], [self.prompts[place] for place in places]
        for place, told in zip(places, _told(self.score, gray, pairs, [name], prompts, self.guess), strict=True):
            self.found[place] = self.found[place].and_then(told)


def measure(
    score: EmbeddingScore,
    pictures: Sequence[Image.Image],
    prompts: Sequence[Prompts],
    probes: Sequence[str] = ("gray",),
    twins: HardenedScores = NO_HARDENED,
    guess: bool = False,
    draw: int | None = None,
) -> list[Sensitivity]:
    """Sensitivities of pictures to all of these probes; a picture and its transformed versions share passes.

    Args:
        score: Any score over an encoder.
        pictures: RGB pictures of any sizes.
        prompts: The prompts of each; an empty tuple for none.
        probes: Names for `transformation`, and of twins.
        twins: As for `ProbeSession`.
        guess: As for `ProbeSession`.
        draw: As for `ProbeSession`; probes keep their names.
    """
    if not pictures:
        return []
    changes = [name for name in probes if name not in twins]
    exact = [transformation(name, draw).exact for name in changes]

    def versions(picture: Image.Image) -> list[Image.Image]:
        resized = score.encoder.resize(picture)
        return [resized, *(change(resized) for change in exact)]

    each = _each(versions, pictures)
    levels = _levels([version for group in each for version in group])
    gray = _gray(levels[:: 1 + len(changes)])
    embeddings, names = _embedded(score, levels, ROWS).view(len(pictures), 1 + len(changes), -1), changes
    for name in probes:  # a twin's embedding of the picture stands where that of a transformed picture would
        if twin := twins.get(name):
            seen = _embedded(twin, _levels(_each(twin.encoder.resize, [group[0] for group in each])), ROWS)
            embeddings, names = torch.cat([embeddings, seen[:, None]], dim=1), [*names, name]
    return _told(score, gray, embeddings, names, prompts, guess)


def _each(change: Callable[[Image.Image], Item], pictures: Sequence[Image.Image]) -> list[Item]:
    """What becomes of each picture, on as many threads as torch has: Pillow works outside of Python's lock."""
    if (threads := torch.get_num_threads()) == 1:
        return [change(picture) for picture in pictures]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(change, pictures))


def _levels(pictures: Sequence[Image.Image]) -> Tensor:
    """uint8 (N, 3, H, W) of pictures of one size."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)


def _gray(levels: Tensor) -> list[bool]:
    """Whether each picture, uint8 (N, 3, H, W), has no colour."""
    red, green, blue = levels.unbind(dim=1)
    spread = red.maximum(green).maximum(blue) - red.minimum(green).minimum(blue)
    found: list[bool] = (spread <= GRAY_LEVELS).flatten(1).all(dim=1).tolist()
    return found


def _embedded(score: EmbeddingScore, levels: Tensor, rows: int) -> Tensor:
    """Unit vectors (N, D), on the CPU."""
    # A large model on a CPU gains nothing from a batch, and would pay for padding it.
    return score.encoder.encode_resized(levels, score.rows(rows, 2)).cpu()


def _told(
    score: EmbeddingScore,
    gray: Sequence[bool],
    embeddings: Tensor,
    names: Sequence[str],
    prompts: Sequence[Prompts],
    guess: bool,
) -> list[Sensitivity]:
    """What the embeddings (N, 1 + V, D) of N pictures and of the V looks at each tell."""
    found: list[Sensitivity] = []
    drifts = _named(names, drift(embeddings[:, :1], embeddings[:, 1:]))
    # Products with text vectors picture by picture: those of more rows may round differently.
    for is_gray, drifted, own in zip(gray, drifts, embeddings, strict=True):
        told = Sensitivity(is_gray, drifted, None, {}, {})
        if guess:
            captions, vectors = _bank(score.encoder)
            cosines = own @ vectors.T
            best = int(cosines[0].argmax())
            fits, *others = (cosines[:, best] / NO_MATCH).tolist()
            guesses = {name: fits - other for name, other in zip(names, others, strict=True)}
            told = replace(told, guess=captions[best], guess_level=fits, guesses=guesses, level=fits)
        found.append(told)
    if not (asked := [place for place, own in enumerate(prompts) if own]):
        return found
    values = [score.compare(embeddings[place], score.remembered(prompts[place]).cpu()) for place in asked]
    means = torch.stack([score.figures(each).mean(dim=-1) for each in values])
    own, looked = means[:, :1], means[:, 1:]
    scores, drops, lost = (
        _named(names, each) for each in (looked, drop(own, looked, score.floor), (own - looked) / score.floor)
    )
    for number, (place, mean) in enumerate(zip(asked, own[:, 0].tolist(), strict=True)):
        found[place] = replace(
            found[place],
            score=mean,
            scores=scores[number],
            drops=drops[number],
            lost=lost[number],
            level=mean / score.floor,
        )
    return found


def _named(names: Sequence[str], values: Tensor) -> list[dict[str, float]]:
    """Rows of values (N, V) by the names of their columns."""
    return [dict(zip(names, row, strict=True)) for row in values.tolist()]


@lru_cache(maxsize=4)
def _bank(encoder: Encoder) -> tuple[tuple[str, ...], Tensor]:
    """What pictures are guessed to show, and the vectors (T, D) of these captions."""
    captions = (*imagenet(1000), *ARTWORKS)
    with torch.inference_mode(False):
        return captions, encoder.encode_texts(captions).cpu()


#: Drifts below this are noise, and their logarithms would be nothing but that.
LEAST_DRIFT = 1e-3
#: Level of the guess below which a picture fits none of the captions, and a relative loss is noise.
LEAST_FIT = 0.5


def feature_names(probes: Sequence[str], with_prompts: bool) -> list[str]:
    """Names of what can be told from a `Sensitivity`: drifts, and what is lost of the score, or of the guess.

    The score itself is left out on purpose: a picture that matches its caption well is no suspect.
    """
    kinds = ("drift", "logdrift", "drop", "lost", "gain") if with_prompts else ("drift", "logdrift", "guess", "fall")
    return [f"{kind}_{name}" for kind in kinds for name in probes]


def probes_of(names: Sequence[str]) -> list[str]:
    """The probes that features of these names are about, each once."""
    return list(dict.fromkeys(name.partition("_")[2] for name in names))


def features(sensitivity: Sensitivity, names: Sequence[str]) -> list[float]:
    """The figures called `KIND_LOOK`, with these kinds.

    `drift`, `drop` and `lost` are the module's, `logdrift` the natural logarithm of a drift. `gain` is what a probe
    adds to the score, and 0 where it takes from it: a picture that was cropped after it was fooled scores higher for
    being shrunk, and a clean one does not. `guess` and `fall` are what the guess loses, absolutely and relatively.
    """
    kinds: dict[str, Callable[[str], float]] = {
        "drift": lambda probe: sensitivity.drifts[probe],
        "logdrift": lambda probe: math.log(max(sensitivity.drifts[probe], LEAST_DRIFT)),
        "drop": lambda probe: sensitivity.drops[probe],
        "lost": lambda probe: sensitivity.lost[probe],
        "gain": lambda probe: max(0.0, -sensitivity.lost[probe]),
        "guess": lambda probe: sensitivity.guesses[probe],
        "fall": lambda probe: sensitivity.guesses[probe] / max(sensitivity.guess_level, LEAST_FIT),
    }
    return [kinds[kind](probe) for kind, _, probe in (name.partition("_") for name in names)]
