"""Probes: what becomes of a picture's score and embedding under a small change, or with a hardened encoder."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor

from foclip.data.images import to_image, to_tensor
from foclip.data.prompts import ARTWORKS, Prompts, imagenet
from foclip.detection.features import CHOOSING_NONE, Sensitivity, absolute_drop, drift, drop, heading
from foclip.detection.transformations import transformation
from foclip.errors import UsageError
from foclip.models import Encoder, embedded
from foclip.models.batching import TargetCache, embeddings, figures, pass_rows
from foclip.models.catalogue import unblurred
from foclip.models.scorer import EmbeddingScorer, ScoreInfo, Scorer, Targets
from foclip.models.scores.ensemble import EnsemblePreprocess
from foclip.models.surroundings import undisturbed

#: The same score over hardened encoders, by their names: those are also the names of the probes.
HardenedScores = Mapping[str, EmbeddingScorer]
NO_HARDENED: HardenedScores = {}
#: What the encoder and each hardened one see of a picture: uint8 (3, h, w) each.
Views = tuple[Tensor, ...]
#: Rows of a pass through the image tower: for all pictures, and for those that a cascade is in doubt about. A pass that
#: is not full is padded, and costs as much as a full one; with fewer rows, each costs more.
ROWS, SOME_ROWS = 32, 16
#: A picture is gray already if, as the encoder sees it, its channels differ by at most this many of 255.
GRAY_LEVELS = 2
#: Cosine in units of which a picture's fit with its zero-shot caption is given: no match in any CLIP.
NO_MATCH = 0.1
#: Least cosine of a text in two encoders that have one text tower, even if one of them was fine-tuned since; others
#: agree by chance alone.
SAME_TEXTS = 0.5


def require_embedding(scorer: Scorer) -> EmbeddingScorer:
    """The scorer, or a `UsageError` if it has no embedding, so that no detector can probe it."""
    if not isinstance(scorer, EmbeddingScorer):
        raise UsageError(
            f"score: {scorer.info.name} has no embedding, so embedding drift and zero-shot captions, which detectors "
            "are made of, cannot be measured; detect with a score over an encoder, such as clipscore"
        )
    if not scorer.encoder.fixed_size:
        raise UsageError(
            f"model: {scorer.model} sees each picture in another shape, and the probes of a detector need one; detect "
            "with an encoder of one resolution"
        )
    return scorer


def over_hardened(scorer: EmbeddingScorer, encoder: Encoder) -> EmbeddingScorer:
    """The same score over a hardened version of its encoder; a `UsageError` if that is of another encoder."""
    one, other = (each.encode_texts(["a photo."])[0].cpu() for each in (scorer.encoder, encoder))
    foreign = one.shape != other.shape or float(one @ other) < SAME_TEXTS
    own, base = unblurred(scorer.model), unblurred(encoder.name)
    if {own, base} <= {*embedded.names()}:  # whose text towers are alike
        only_blurred = own == base == scorer.model != encoder.name
        foreign = not only_blurred and base not in embedded.HARDENED.get(own, ())
    if foreign:
        raise UsageError(f"hardened: {encoder.name} is no hardened version of {scorer.model}")
    return scorer.with_encoder(encoder)


def loss(info: ScoreInfo, raw: Tensor) -> Tensor:
    """What cosines lose under each probe, of raw scores (1 + V, T) of a picture and of it under V probes: (V,).

    Also where the figure is 0 already, a score can be lost. A score that is no cosine counts in units of its floor.
    """
    return (raw[:1] - raw[1:]).mean(dim=-1) * info.scale / info.floor * NO_MATCH


class Preprocessing(EnsemblePreprocess):
    """What the encoder, and each hardened one, sees of a picture; those with one preprocessing share what it makes."""

    @property
    def kinds(self) -> list[object]:
        """What tells one preprocessing from another."""
        return [getattr(own, "description", id(own)) for own in self.members]

    def image(self, picture: Image.Image) -> tuple[Any, ...]:
        made = {kind: own.image(picture) for kind, own in dict(zip(self.kinds, self.members, strict=True)).items()}
        return tuple(made[kind] for kind in self.kinds)


#: Vectors of the captions by encoder, which take seconds to make; they go when the encoder goes.
_caption_vectors: WeakKeyDictionary[Encoder, Tensor] = WeakKeyDictionary()
_captioning = Lock()


@cache
def _captions() -> Prompts:
    return (*imagenet(1000), *ARTWORKS)


def caption_vectors(encoder: Encoder) -> Tensor:
    """An encoder's vectors (T, D) of a thousand captions, on the CPU; they are made when they are first needed."""
    with _captioning:
        if encoder not in _caption_vectors:
            with undisturbed(), torch.no_grad():
                _caption_vectors[encoder] = encoder.encode_texts(_captions()).cpu()
        return _caption_vectors[encoder]


def caption_cosines(encoder: Encoder, vectors: Tensor) -> Tensor:
    """Cosines (N, T) of unit vectors (N, D) with a thousand captions."""
    return vectors @ caption_vectors(encoder).T


class Prober:
    """Takes probes of pictures with one score. It belongs to one stream of pictures, with what that remembers.

    Every pass through a tower has a fixed number of rows, so what is found of a picture does not depend on others. A
    `UsageError` says if the scorer has no embedding.
    """

    def __init__(
        self,
        scorer: Scorer,
        hardened: HardenedScores = NO_HARDENED,  # the same score over hardened encoders, by the names of the probes
        seed: int | None = None,  # of random amounts (`foclip.detection.transformations`); None for the usual ones
        targets: Callable[[Prompts], Targets] | None = None,  # gives the targets of prompts; None for its own cache
    ) -> None:
        self.scorer, self.hardened, self.seed = require_embedding(scorer), hardened, seed
        self.preprocess = Preprocessing([each.preprocess for each in (self.scorer, *hardened.values())]).image
        self.targets = targets or TargetCache(self.scorer)

    @undisturbed()
    def measure(
        self,
        views: Sequence[Views],  # what `preprocess` made of each picture
        prompts: Sequence[Prompts],  # those of each; an empty tuple for none
        probes: Sequence[str],  # names of transformations and of hardened encoders
        captions: bool = False,  # whether zero-shot captions are looked for, too
    ) -> list[Sensitivity]:
        """Sensitivities of pictures to all of these probes."""
        if not views:
            return []
        names = sorted(probes, key=self.hardened.__contains__)
        vectors = self.embed(views)[:, None]
        if names:
            vectors = torch.cat([vectors, self.embed_under(names, views, ROWS)], dim=1)
        return self.tell(views, vectors, names, prompts, captions)

    def embed(self, views: Sequence[Views]) -> Tensor:
        """Unit vectors (N, D) of pictures, on the CPU."""
        return _embeddings(self.scorer, [view[0] for view in views], ROWS)

    def embed_under(self, names: Sequence[str], views: Sequence[Views], rows: int) -> Tensor:
        """Unit vectors (N, V, D) of pictures under each probe, on the CPU; transformations come first in `names`."""
        changes = [transformation(name, self.seed).exact for name in names if name not in self.hardened]

        def changed(view: Views) -> list[Tensor]:
            picture = to_image(view[0])
            return [to_tensor(change(picture)) for change in changes]

        found = []
        if changes:
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # Pillow works outside of Python's lock
                inputs = [one for some in pool.map(changed, views) for one in some]
            found.append(_embeddings(self.scorer, inputs, rows).view(len(views), len(changes), -1))
        for name in names[len(changes) :]:
            place = 1 + list(self.hardened).index(name)
            found.append(_embeddings(self.hardened[name], [view[place] for view in views], rows)[:, None])
        return torch.cat(found, dim=1)

    def tell(
        self, views: Sequence[Views], vectors: Tensor, names: Sequence[str], prompts: Sequence[Prompts], captions: bool
    ) -> list[Sensitivity]:
        """What the unit vectors (N, 1 + V, D) of N pictures and of each under V probes tell."""
        scorer = self.scorer

        def by_probe(each: Tensor) -> dict[str, float]:
            return dict(zip(names, each.tolist(), strict=True))

        pictures = torch.stack([view[0] for view in views])
        gray = (pictures.amax(dim=1) - pictures.amin(dim=1) <= GRAY_LEVELS).flatten(1).all(dim=1).tolist()
        drifts = drift(vectors[:, :1], vectors[:, 1:])
        floor = scorer.info.floor
        found = [Sensitivity(*each, floor) for each in zip(gray, map(by_probe, drifts), strict=True)]
        if captions:
            # What only some detectors take, such as hardened encoders, does not choose the caption: it is the same with
            # and without that.
            beside = (*self.hardened, *CHOOSING_NONE)
            choosing = torch.tensor([name not in beside for name in names], dtype=torch.bool)
            if not choosing.any():
                choosing = ~choosing
            for place, (drifted, own) in enumerate(zip(drifts, vectors, strict=True)):
                cosines = caption_cosines(scorer.encoder, own)
                best = int(cosines[0].argmax())
                fit, *moved = (cosines[:, best] / NO_MATCH).tolist()
                lost = cosines[0] - cosines[1:]
                most = lost[:, lost[choosing].mean(dim=0).argmax()] if names else lost[:, 0]
                found[place] = replace(
                    found[place],
                    zero_shot_caption=_captions()[best],
                    caption_score=fit,
                    caption_drops={name: fit - other for name, other in zip(names, moved, strict=True)},
                    caption_headings=by_probe(heading(most, drifted)),
                )
        if asked := [place for place, each in enumerate(prompts) if each]:
            # Products with text vectors picture by picture: those of more rows may round differently.
            raws = [scorer.compare(vectors[place], self._on_cpu(prompts[place])) for place in asked]
            scores = torch.stack([figures(scorer, raw).mean(dim=-1) for raw in raws])
            losses = torch.stack([loss(scorer.info, raw) for raw in raws])
            score, moved_to = scores[:, :1], scores[:, 1:]
            told = zip(
                scores[:, 0].tolist(),
                moved_to,
                drop(score, moved_to, floor),
                absolute_drop(score, moved_to, floor),
                heading(losses, drifts[asked]),
                strict=True,
            )
            for place, (own_score, *by_name) in zip(asked, told, strict=True):
                scored, dropped, absolute, headed = map(by_probe, by_name)
                found[place] = replace(
                    found[place],
                    score=own_score,
                    scores=scored,
                    drops=dropped,
                    absolute_drops=absolute,
                    headings=headed,
                )
        return found

    def _on_cpu(self, prompts: Prompts) -> Tensor:
        targets = self.targets(prompts)
        assert isinstance(targets, Tensor)
        return targets.cpu()


class ProbeSession:
    """Pictures that are probed again and again, each embedded once; arguments as for `Prober.measure`.

    What is found of a picture is the same, up to rounding, as if all of its probes were taken at once.
    """

    def __init__(
        self, prober: Prober, views: Sequence[Views], prompts: Sequence[Prompts], captions: bool = False
    ) -> None:
        self.prober, self.views, self.prompts, self.captions = prober, views, prompts, captions
        # The unit vectors (1 + V, D) of each picture, as it is and under the probes that were taken.
        self._vectors = list(prober.embed(views)[:, None])
        self._taken: list[tuple[str, ...]] = [()] * len(views)
        #: What is known of each picture so far.
        self.found = prober.tell(views, torch.stack(self._vectors), (), prompts, captions)

    def probe(self, names: Sequence[str], places: Sequence[int], rows: int) -> None:
        """Take more probes of the pictures at some places, in passes of so many rows."""
        further = self.prober.embed_under(names, [self.views[place] for place in places], rows)
        for place, vectors in zip(places, further, strict=True):
            self._vectors[place] = torch.cat([self._vectors[place], vectors])
            self._taken[place] = (*self._taken[place], *names)
        for taken in dict.fromkeys(self._taken[place] for place in places):
            alike = [place for place in places if self._taken[place] == taken]
            views, prompts = [self.views[place] for place in alike], [self.prompts[place] for place in alike]
            vectors = torch.stack([self._vectors[place] for place in alike])
            told = self.prober.tell(views, vectors, taken, prompts, self.captions)
            for place, found in zip(alike, told, strict=True):
                self.found[place] = found


def measure(
    scorer: Scorer,
    pictures: Sequence[Image.Image],
    prompts: Sequence[Prompts],
    probes: Sequence[str] = ("gray",),
    hardened: HardenedScores = NO_HARDENED,
    captions: bool = False,
    seed: int | None = None,
) -> list[Sensitivity]:
    """Sensitivities of RGB pictures of any sizes to probes; arguments as for `Prober` and its `measure`."""
    prober = Prober(scorer, hardened, seed)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        views = list(pool.map(prober.preprocess, pictures))
    return prober.measure(views, prompts, probes, captions)


def _embeddings(scorer: EmbeddingScorer, images: Sequence[Tensor], rows: int) -> Tensor:
    # A large model on a CPU gains nothing from a batch, and would pay for padding it.
    return embeddings(scorer, torch.stack(list(images)), pass_rows(scorer, rows, 2)).cpu()
