"""A small byte-level BPE tokenizer that open_clip loads through ``transformers``.

open_clip's own tokenizer needs a table of 49,408 token embeddings, more than both embedded
encoders together may weigh.  Ours has a few thousand entries; every text can be written with
it, because single bytes are part of the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, tensor

PAD, START, END = "<pad>", "<start>", "<end>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn ``vocab_size`` entries (special ones included) from ``texts``.

    ``<pad>`` is entry 0.  ``<end>`` is the highest entry, because open_clip's text tower reads
    its result at the position of the highest token (``pool_type="argmax"``).
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            special_tokens=[PAD, START],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens([END])
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    if end != tokenizer.get_vocab_size() - 1:
        raise RuntimeError("the end token must have the highest id")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Write the two files ``transformers.AutoTokenizer`` needs to load it offline."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": START,
        "eos_token": END,
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], context_length: int) -> Tensor:
    """Tokens of ``texts``: (T, L) with L the longest of them, padded with 0.

    A text that is too long loses its tail and keeps its end token.
    """
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    rows = [r if len(r) <= context_length else [*r[: context_length - 1], r[-1]] for r in rows]
    longest = max(len(row) for row in rows)
    return tensor([row + [0] * (longest - len(row)) for row in rows])
