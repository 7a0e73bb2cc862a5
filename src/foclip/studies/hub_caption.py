"""Hub caption: does one caption score higher for photos than their own captions do?

The counterpart of `hub` in text (arXiv 2604.27674): a caption that fits no picture in particular, and scores high for
all of them. A greedy search over pieces of text looks for it with a budget of queries: it exchanges one piece at a
time and keeps what raises the mean cosine with half of the photographs. Pieces are words of ImageNet's captions, or any
syllables cut from them, which need not be readable. How high does the caption score for the other half of the
photographs, which the search never saw, beside the caption of each, and beside a plain caption?
"""

import random
from collections.abc import Iterator, Sequence

import pandas as pd
import torch

from foclip.cache import Cache
from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness import pictures as photos
from foclip.studies.harness.context import candidates
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import groups, mean, share
from foclip.studies.hub import GENUINE, gallery

#: Texts that a search may ask for (quick run, full run), of which so many at once; and pieces of a caption.
QUICK, FULL, AT_ONCE, LENGTH = 4096, 65536, 64, 10
#: What the captions are made of, and what they stand beside.
WORDS, SYLLABLES, OWN, PLAIN = "words", "syllables", "own caption", "plain caption"
PLAIN_TEXT = "a photo."


def pieces(kind: str) -> list[str]:
    """What captions are put together from: words of ImageNet's captions, or pieces of two to four letters of them."""
    words = sorted({word for caption in candidates() for word in caption.strip(".").split()})
    if kind == WORDS:
        return words
    cuts = [(start, size) for size in (2, 3, 4) for start in range(max(map(len, words)))]
    return sorted({piece for word in words for start, size in cuts if (piece := word[start : start + size])})


def search(context: StudyContext, pictures: Sequence[Picture], kind: str) -> str:
    """The caption with the highest mean cosine with pictures that a greedy search finds, within its queries."""
    queries, encoder = QUICK if context.settings.quick else FULL, context.score.encoder
    draw = random.Random(f"hub caption {context.settings.seed} {kind}")  # noqa: S311 (a draw of words, not a secret)
    pool, aim = pieces(kind), encoder.encode_pictures([picture.image for picture in pictures]).mean(dim=0)
    chosen, best = draw.choices(pool, k=LENGTH), -1.0
    for _ in range(queries // AT_ONCE):
        place = draw.randrange(LENGTH)
        drawn = draw.choices(pool, k=AT_ONCE)
        asked = [[*chosen[:place], piece, *chosen[place + 1 :]] for piece in drawn]
        with torch.no_grad():
            cosines = encoder.encode_texts([" ".join(words) for words in asked]) @ aim
        if float(cosines.max()) > best:
            chosen, best = asked[int(cosines.argmax())], float(cosines.max())
    return " ".join(chosen)


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: photographs × captions."""
    photographs = gallery(context)
    names = sorted({picture.photo for picture in photographs})
    seen = set(names[::2])
    searched, others = (
        [picture for picture in photographs if (picture.photo in seen) == part] for part in (True, False)
    )
    found = {PLAIN: PLAIN_TEXT}
    for kind in context.with_progress((WORDS, SYLLABLES)):
        budget = QUICK if context.settings.quick else FULL
        digests = [picture.digest for picture in searched]
        key = Cache.key("hub caption", kind, budget, context.settings.seed, context.score.fingerprint, digests)

        def compute(places: list[int], kind: str = kind) -> Iterator[tuple[int, str]]:
            return ((place, search(context, searched, kind)) for place in places)

        (found[kind],) = context.cache.fill([key], compute)
    paths = photos.choose(context.settings.images, GENUINE, context.settings.seed)
    own = context.best_captions([context.score], others, paths)
    captions = {OWN: own} | {name: dict.fromkeys(own, (text,)) for name, text in found.items()}
    scores = {name: context.scores(others, texts)[:, 0] for name, texts in captions.items()}
    return pd.DataFrame(
        {"caption": name, "text": captions[name][picture.name][0], "picture": picture.name, "photo": picture.photo}
        | {"score": score, "above_own": score > least}
        for name, column in scores.items()
        for picture, score, least in zip(others, column, scores[OWN], strict=True)
    )


def report(table: pd.DataFrame) -> StudyReport:
    """Scores of each caption on photographs that the search never saw."""
    parts = groups(table, "caption")
    scores = {name: mean(part.score, part.photo) for name, part in parts.items()}
    above = {name: share(part.above_own, part.photo) for name, part in parts.items()}
    summary = [
        {"caption": name, "pictures": len(part), "score": f"{scores[name]:.3f}"}
        | {
            "above the own caption": "–" if name == OWN else f"{above[name]:.1%}",
            "text": "–" if name == OWN else part.text.iloc[0],
        }
        for name, part in parts.items()
    ]
    findings = [
        f"A caption of {name} scores {scores[name]:.3f} on average for photographs that the search never saw (their "
        f"own captions: {scores[OWN]:.3f}), and more than the own caption for {above[name]:.1%} of them."
        for name in (WORDS, SYLLABLES)
    ]
    return StudyReport(pd.DataFrame(summary), {"score-by-caption": plots.bars(scores, "CLIPScore")}, findings)


study = Study(__name__, __doc__, table, report, judged=False)
