"""Small data sets as real writers leave them (`make.py`): no row and no caption is lost, and none is made up."""

import pytest
from make import CAPTIONS
from reading import HERE, SOURCES, read


@pytest.mark.parametrize("name", SOURCES)
def test_rows_and_captions_as_written(name: str) -> None:
    keys, rows, captions = read(name)
    fact = SOURCES[name]
    assert (len(keys), rows, len(captions)) == (fact["rows"], fact["rows"], fact["captions"])
    first = {caption.partition("\n")[0] for caption in captions}
    assert len(first) == fact["captions"]
    assert first <= {*CAPTIONS}


def test_every_source_is_read_and_all_of_it_is_small() -> None:
    assert {path.name for path in (HERE / "data").iterdir()} == {*SOURCES}
    assert sum(path.stat().st_size for path in (HERE / "data").rglob("*") if path.is_file()) < 700_000
