"""The embedded encoders' tokenizer against open_clip's own of the same folder."""

from typing import Any

import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foclip.data.prompts import ARTWORKS, imagenet
from foclip.models import embedded
from foclip.models.tokenizer import EmbeddedTokenizer

#: Names of the embedded encoders with a tokenizer of their own.
NAMES = [name for name in embedded.names() if name not in embedded.ORIGINALS]
CAPTIONS = [
    *ARTWORKS,
    *imagenet(1000),
    "",
    " ",
    "\t\n \u3000\u200b",
    "word " * 500,
    "unbroken" * 500,
    "x" * 100_000,
    "  leading,\n\n trailing \t and   inner  spaces ",
    "<start> a <end> of <pad> <pad>",
    "<end>",
    "<|endoftext|> [SEP] </s>",
    "&lt;b&gt; &amp;amp; caf&eacute;",
    "CAPITALS, ÀÉÎÕÜ ẞ İı ﬁ ½ Ⅷ",
    "schÃ¶n",  # what ftfy repairs
    "“quotes” – dashes… ‘and’ ﬀ",
    "e\u0301 against \u00e9",
    "一只猫坐在垫子上",
    "кошка на коврике",
    "قطة على السجادة",
    "แมวบนเสื่อ",
    "🐕‍🦺👩‍👩‍👧‍👦🇨🇭 \N{DOG FACE}\ufe0f",
    "\x00\x01\x1b[31mred\x1b[0m\x7f",
    "caf\udce9 \ud83d",
    "0.5 1,000,000 3/4 a_b-c.d@e #tag https://example.org/?q=%20",
]


def both(name: str) -> tuple[EmbeddedTokenizer, Any]:
    """Ours, and open_clip's of the same folder."""
    theirs = open_clip.get_tokenizer(f"local-dir:{embedded.path(name)}")
    return EmbeddedTokenizer(embedded.path(name), theirs.context_length), theirs


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_open_clips_tokenizer(name: str) -> None:
    ours, theirs = both(name)
    for length in (None, 5, 33):  # as set up, shorter, and longer than the model reads
        found, expected = ours(CAPTIONS, length), theirs(CAPTIONS, length)
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()


@pytest.mark.slow
def test_ids_of_any_text() -> None:
    ours, theirs = both("mini")

    @given(st.lists(st.text(max_size=80), min_size=1, max_size=5))
    def check(texts: list[str]) -> None:
        assert ours(texts).tolist() == theirs(texts).tolist()

    check()
