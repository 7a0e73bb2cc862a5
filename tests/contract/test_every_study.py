"""Every study has what the harness asks of one, and is named where readers look for it."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from foclip.studies import available
from foclip.studies.harness import Study

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(params=sorted(available()))
def study(request: pytest.FixtureRequest) -> Study:
    return available()[request.param]


def test_it_is_found_by_the_name_of_its_module(study: Study) -> None:
    module = import_module(study.module)
    assert module.study is study
    assert available()[study.name] is study


def test_it_asks_a_question(study: Study) -> None:
    title, _, question = study.doc.partition("\n\n")
    assert title.strip().endswith("?")
    assert len(question.split()) > 10


def test_its_parts_take_what_the_harness_gives(study: Study) -> None:
    parts = [study.table, study.report, *([study.gallery] if study.gallery else [])]
    assert all(len(inspect.signature(part).parameters) == 1 for part in parts)


def test_readers_find_it(study: Study) -> None:
    assert f"`{study.name}`" in (DOCS / "studies.md").read_text(encoding="utf-8")
