"""Captions of a folder of pictures in Hugging Face's `metadata.csv`, `.jsonl` or `.parquet`, in it or above it."""

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from foclip.data import captions, prompts
from foclip.data.sources.item import Columns, Shard

#: Names of the files, in the order in which they count.
NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def captions_of(fs: Any, folder: str, shard: Shard, columns: Columns) -> dict[str, str]:
    """Captions, one per line, by the names of a shard's pictures in `folder`.

    The nearest file counts that names a picture. A `PromptError` or `ValueError` says why a file cannot be read.
    """
    found: dict[str, str] = {}
    below, above = "", shard.prefix.rstrip("/")
    while True:
        held = _read(fs, folder, columns.caption)
        told = {name: held.get(path := f"{below}{name}") or held.get(captions.plain(path)) for name in shard.names}
        found = {name: own for name, own in told.items() if own} | found
        if not above:
            return found
        above, _, last = above.rpartition("/")
        below, folder = f"{last}/{below}", folder.rpartition("/")[0]


@lru_cache(maxsize=8)
def _read(fs: Any, folder: str, caption: str | None) -> dict[str, str]:
    """Captions of a folder's file by its paths, and by these as `plain`; empty if there is none of pictures."""
    import pyarrow.parquet as parquet

    name = next((name for name in NAMES if fs.exists(f"{folder}/{name}")), None)
    if name is None:
        return {}
    content, found = fs.cat_file(f"{folder}/{name}"), dict[str, list[str]]()
    try:
        if name.endswith(".parquet"):
            rows = parquet.read_table(io.BytesIO(content)).to_pylist()
            named = captions.named_pairs(Path(name), enumerate(rows), caption)
        else:
            named = captions.pairs(prompts.decoded(content), Path(name), caption)
        for _, path, told in named:
            found.setdefault(path, []).extend([told] if told else [])
    except captions.NoPairs:
        return {}
    exact = {path: "\n".join(told) for path, told in found.items() if told}
    return {captions.plain(path): told for path, told in exact.items()} | exact
