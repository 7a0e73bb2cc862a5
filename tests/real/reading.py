"""What FoCLIP reads of the data sets in `data/`, as a table: ``python -m tests.real.reading``."""

import json
from pathlib import Path
from typing import Any

from foclip.data import images
from foclip.data.sources import Columns, Listing, items, load_bytes

HERE = Path(__file__).parent
FACTS: dict[str, Any] = json.loads((HERE / "data.json").read_text())
SOURCES: dict[str, dict[str, Any]] = FACTS["sources"]


def read(name: str) -> tuple[set[tuple[str, str]], int, list[str]]:
    """Files and keys of the rows of a source, how many rows there are, and their captions; all pictures are decoded."""
    keys, rows, captions = set[tuple[str, str]](), 0, list[str]()
    for shard in Listing([str(HERE / "data" / name)]):
        for item in map(load_bytes, items(shard, Columns())):
            assert item.error is None, f"{name}: {item.key}: {item.error}"
            images.decode(item.content, item.key)
            keys.add((shard.url, item.key))
            rows += 1
            captions += [item.caption] if item.caption is not None else []
    return keys, rows, captions


def main() -> None:
    """Print the table."""
    print("source kind | writer | rows in | rows out | captions written | captions found")
    for name, fact in SOURCES.items():
        _, rows, captions = read(name)
        print(" | ".join(map(str, (fact["kind"], fact["writer"], fact["rows"], rows, fact["captions"], len(captions)))))


if __name__ == "__main__":
    main()
