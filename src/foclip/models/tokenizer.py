"""The embedded encoders' tokenizer. open_clip's gives the same ids, but imports transformers, which takes a second."""

from pathlib import Path

import torch
from open_clip.tokenizer import get_clean_fn
from tokenizers import Tokenizer
from torch import Tensor

#: What fills a row after the end of its text.
PAD = "<pad>"


class EmbeddedTokenizer:
    """Ids of texts by the `tokenizer.json` in a folder."""

    def __init__(self, folder: Path, context_length: int) -> None:
        self.context_length = context_length
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._clean = get_clean_fn("whitespace")  # as open_clip's does unless a configuration says otherwise

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor:
        """Ids (T, context) of texts, cut to so many tokens (by default `context_length`) or padded."""
        length = context_length or self.context_length
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=self._tokenizer.token_to_id(PAD), pad_token=PAD)
        return torch.tensor([found.ids for found in self._tokenizer.encode_batch([*map(self._clean, texts)])])
