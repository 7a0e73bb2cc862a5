"""Figures of README and docs come from records, and records from runs of this tree (`benchmarks.docs`)."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks import layouts, record, taken
from benchmarks.docs import differences, older
from benchmarks.layout import Layout
from benchmarks.pages import Figures, pages, pieces, rendered, shown, spread
from benchmarks.printed import printed
from benchmarks.prose import uncited
from benchmarks.record import Record
from foclip.errors import UsageError
from foclip.runs import provenance
from foclip.studies.harness import TABLE, PaperComparison, Study, StudyReport
from foclip.studies.harness.statistics import Estimate

MADE: dict[str, Any] = {
    "foclip": "0.1.0",
    "commit": "0123abc",
    "date": "2026-11-29",
    "machine": {"processor": "a processor", "torch": "2.14"},
}
ROWS: list[dict[str, Any]] = [
    {"budget / dB": "35", "rise": {"value": 1.075, "low": 1.01, "high": 1.1}, "caught": 1.0},
    {"budget / dB": "40", "rise": 0.61, "caught": None},
]


@pytest.fixture(scope="module")
def figures() -> Figures:
    return Figures.read()


def figures_of(**records: Record) -> Figures:
    return Figures(records, {"attack": "1", "detector mini": "a"})


def a_record(**parts: str) -> Record:
    return Record("A title", "a command", {}, MADE, parts, {"rises": ROWS})


def test_readme_and_docs_show_the_figures_of_their_records(figures: Figures) -> None:
    """`python -m benchmarks.docs` writes them, and says what is wrong."""
    assert "\n".join(differences(figures, pages())) == ""


def test_a_changed_digit_is_noticed_with_page_and_line(figures: Figures) -> None:
    page = "docs/detection.md"
    text = pages()[page]
    inline = next(piece for piece in pieces(text) if piece.spec is not None)
    table = next(piece for piece in pieces(text) if piece.name == "caught")
    for piece in (inline, table):
        place = re.compile(r"\d").search(text, text.index("97 %", piece.start) if piece is table else piece.start)
        assert place
        digit = place.start()
        changed = text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :]
        said = [line for line in differences(figures, {page: changed}) if line.startswith(page)]
        assert len(said) == 1
        assert said[0].startswith(f"{page}:{text.count(chr(10), 0, digit) + 1}: {piece.name} is ")
        assert rendered(changed, page, figures) == text


def test_records_of_other_weights_detectors_or_attacks_are_refused_unless_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today, other = a_record(attack="1", **{"detector mini": "a"}), a_record(attack="1", **{"detector mini": "b"})
    monkeypatch.setattr("benchmarks.docs.OLDER", {})
    assert list(older(figures_of(some=today))) == []
    (said,) = older(figures_of(some=other))
    assert said.startswith("docs/figures/some.json: other than in this tree: detector mini;")
    monkeypatch.setattr("benchmarks.docs.OLDER", {"some": "takes hours"})
    assert list(older(figures_of(some=other))) == []
    (said,) = older(figures_of(some=today))
    assert "strike it out" in said


def test_a_table_says_that_it_is_of_older_code(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(["some/rises"], {"dB": "{budget / dB}", "rise": "{rise:i.2f}", "caught": "{caught:.0%}"})
    monkeypatch.setitem(layouts.TABLES, "rises", layout)
    text = "<!-- figures: rises -->\n<!-- end -->"
    lines = rendered(text, "README.md", figures_of(some=a_record(attack="1"))).splitlines()
    assert lines[2:6] == [
        "| dB | rise | caught |",
        "| --- | ---: | ---: |",
        "| 35 | 1.07 [1.01, 1.10] | 100 % |",
        "| 40 | 0.61 | – |",
    ]
    lines = rendered(text, "README.md", figures_of(some=a_record(attack="0"))).splitlines()
    note = "*Made with older code (FoCLIP 0.1.0, commit 0123abc, 2026-11-29): attack may differ today.*"
    assert lines[6:] == ["", note, "", "<!-- end -->"]


@pytest.mark.parametrize("start", ["", "- ", "1. "])
def test_no_line_begins_with_a_comment(start: str) -> None:
    """Markdown on GitHub would show such a line as it is written."""
    page, some = f"Some words\n{start}<!--=some/rises/40/rise:.2f-->0.61<!--/--> more", figures_of(some=a_record())
    said = [line for line in differences(some, {"docs/new.md": page}) if line.startswith("docs/new.md:2")]
    assert said == ["docs/new.md:2: begins with a comment, and would be no Markdown; move a word"]


def test_a_reference_names_one_figure_or_is_refused() -> None:
    some = figures_of(some=a_record())
    assert some.figure("some/rises/40/rise", "+.1f") == "+0.6"
    assert some.figure("some/rises/35/rise", ".1f") == "1.1"
    assert some.figure("some/rises/budget-db=35/rise", ".1f") == "1.1"
    for reference in ("some/rises/rise", "some/rises/45/rise", "some/rises/40/fall", "some/falls/40/rise", "other/a/b"):
        with pytest.raises(UsageError):
            some.figure(reference, ".1f")


def test_figures_in_sentences_come_from_records_or_are_allowed() -> None:
    measured = "At 45 dB 97 % are caught, the rise is 0.33, it takes 12 s, 1.5 times as long, for 9 of 18."
    said = list(uncited({"README.md": measured}, {}))
    assert [re.findall(r"'(.*?)'", line)[0] for line in said] == ["97 %", "0.33", "12 s", "1.5", "9 of 18"]
    told = "At 45 dB <!--=a/b/c:.0%-->97 %<!--/--> are caught; `--fpr 0.02`; see arXiv\n1704.01155 and version 0.1.0."
    assert list(uncited({"README.md": told}, {})) == []
    code = "```\nfoclip scan pool --min-score 0.3\n```\n\n```python\nx = 0.5\n```\n\n\n"
    assert list(uncited({"README.md": code}, {})) == []
    (pasted,) = uncited({"README.md": "```\nfoclip score cat.png\n\ncat.png  0.467\n```\n"}, {})
    assert pasted.startswith("README.md:4: '0.467'")
    (bare,) = uncited({"README.md": f"{code}\n```\nscenario  caught\n45 dB  97 %\n```\n"}, {})
    assert bare.startswith("README.md:13: '97 %'")
    allowed = "A bound of\n2 % holds. 2 % do not.\n\n## Estimate\n\n5 days\n\n## Next\n\n6 days"
    words = {"README.md": ["bound of 2 % holds", "## Estimate", "3 % are not here"]}
    said = list(uncited({"README.md": allowed}, words))
    assert [line.partition(" comes")[0] for line in said[1:]] == ["README.md:2: '2 %'", "README.md:10: '6 days'"]
    assert "'3 % are not here' is allowed" in said[0]


def test_what_a_command_prints_comes_from_its_record() -> None:
    page = "Try:\n\n<!-- figures: printed-score -->\n<!-- end -->\n"
    command, lines = layouts.PRINTED["printed-score"].command, [f"line {number}" for number in range(5)]
    rows = [{"command": "foclip --version", "printed": "1"}, {"command": command, "printed": "\n".join(lines)}]
    of = figures_of(printed=replace(a_record(), tables={"commands": rows}))
    block = f"```\n{command}\n\nline 0\nline 1\nline 2\n…\n```"
    assert rendered(page, "README.md", of) == page.replace("<!-- end", f"\n{block}\n\n<!-- end")
    with pytest.raises(UsageError, match="has no command 'foclip score"):
        rendered(page, "README.md", figures_of(printed=replace(a_record(), tables={"commands": rows[:1]})))


def test_commands_are_run_as_if_they_were_typed(tmp_path: Path) -> None:
    text = printed("foclip models", tmp_path)  # a table for readers, neither for programs nor with codes for bold
    assert re.match(r"name +kind +input / px +parameters\nmini +embedded", text)
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(subprocess.CalledProcessError) as error:
        printed("foclip score *.png --prompt 'a cat.'", tmp_path)
    assert error.value.cmd[-5:] == ["score", "a.png", "b.png", "--prompt", "a cat."]


@pytest.mark.parametrize("text", ["1.338 [1.265, 1.400]", "62 % [24 %, 91 %]", "+0.760 [+0.643, +0.937]", "1,013", "–"])
def test_what_studies_print_is_read_as_numbers_and_printed_again(text: str) -> None:
    specs = {"1.338": "i.3f", "62 % ": "i.0%", "+0.76": "i+.3f", "1,013": ",", "–": ".3f"}
    assert shown(record.parsed(text), specs[text[:5]]) == text


def test_a_benchmark_keeps_figures_with_what_they_rest_on(tmp_path: Path) -> None:
    rows = [{"model": "mini", "rise": Estimate(0.5, 0.4, 0.6, 8), "share": np.float32(0.25), "none": float("nan")}]
    about: dict[str, Any] = {"models": ["mini", "other"], "detectors": ["mini"], "folder": tmp_path}
    path = record.save("some", "A title", {"rises": rows}, **about)
    found = record.read("some", tmp_path)
    cells = {"model": "mini", "rise": {"value": 0.5, "low": 0.4, "high": 0.6}, "share": 0.25, "none": None}
    assert found.tables == {"rises": [cells]}
    assert found.parts == {name: provenance.parts()[name] for name in ("weights mini", "attack", "detector mini")}
    assert found.made.keys() == {"foclip", "commit", "date", "machine"}
    assert found.made["machine"].keys() == {"processor", "cores", "threads", "torch"}
    record.save("some", "A title", {"more": []}, **about)
    assert record.read("some", tmp_path).tables.keys() == {"rises", "more"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"title": 3}))
    with pytest.raises(UsageError, match="title"):
        record.read("some", tmp_path)


def test_the_commit_tells_changed_code_and_no_other_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that benchmarks write are no change of code; a package within another checkout has none of its own."""

    def git(*words: str) -> None:
        me = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *me, *words], check=True, capture_output=True)

    package = tmp_path / "src" / "foclip"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "record.json").write_text("1")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    git("init")
    assert provenance.made()["commit"] is None
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "record.json").write_text("2")
    commit = provenance.made()["commit"]
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    (package / "__init__.py").write_text("changed = True")
    assert provenance.made()["commit"] == f"{commit}-dirty"


def test_a_command_is_kept_without_folders() -> None:
    assert record.command(["python", "-m", "benchmarks.scan", "killed", "/somewhere/val.parquet"]).endswith(
        "val.parquet"
    )
    assert "somewhere" not in record.command(["x", "/somewhere/else/"])
    assert record.command(["x", "local-dir:/somewhere/stranger"]) == "x local-dir:stranger"


def a_study(judged: bool) -> Study:
    table = pd.DataFrame([{"picture": "a", "rise": 0.25}])

    def report(table: pd.DataFrame) -> StudyReport:
        summary = pd.DataFrame([{"": "fooled", "pictures": len(table), "rise": f"{table.rise.mean():+.3f}"}])
        ours = PaperComparison("rise", 0.427, Estimate(0.25, 0.2, 0.3, 1))
        return StudyReport(summary, {"rises": Figure()}, ["It rose by 0.25."], [ours])

    return Study("studies.toy", "Toy: does it rise?\n\nA question.", lambda context: table, report, judged=judged)


@pytest.mark.parametrize("judged", [True, False])
def test_finished_runs_become_records(judged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tells what it rests on, and one of older code, which needs its commit."""
    run: dict[str, Any] = {
        "studies": ["toy"],
        "command": ["reproduce", "toy"],
        "model": "mini-vit",
        "fingerprints": {"mini": "clipscore 66cf", "mini-vit": "clipscore d413"},
        "settings": {"quick": True, "images": "/somewhere/photos", "paintings": None, "seed": 0},
        "pictures": ["a", "b"],
        "versions": {"foclip": "0.1.0", "torch": "2.14"},
    }
    study, parts = a_study(judged), {name: name for name in provenance.parts()}
    (tmp_path / "toy").mkdir()
    study.table(None).to_parquet(tmp_path / "toy" / TABLE)  # type: ignore[arg-type]  # it needs no context
    monkeypatch.setattr(taken, "available", lambda: {"toy": study})
    monkeypatch.setattr(taken, "FIGURES", tmp_path)
    monkeypatch.setattr(taken, "DRAWINGS", tmp_path / "results")
    another = run | {"studies": ["other"], "command": ["reproduce", "other"]}
    told = another | {"earlier": [run | {"made": MADE, "parts": parts}]}
    (tmp_path / "run.json").write_text(json.dumps(told))
    taken.take([tmp_path], None)
    found = record.read("study-toy-mini-vit", tmp_path)
    assert found.command == "foclip reproduce toy --quick --model mini-vit --images photos --out DIR"
    kinds = ("weights", "detector") if judged else ("weights",)
    assert set(found.parts) == {"attack", *(f"{kind} {model}" for kind in kinds for model in ("mini", "mini-vit"))}
    assert found.tables["summary"] == [{"": "fooled", "pictures": 1, "rise": 0.25}]
    assert (tmp_path / "results" / "toy-mini-vit-rises.png").is_file()
    shown_on = rendered(
        "<!-- figures: studies -->\n<!-- end -->", "docs/results.md", Figures({"study-toy": found}, parts)
    )
    assert "*Quick run with 2 photos on `mini-vit`, torch 2.14. Made with FoCLIP 0.1.0, commit 0123abc" in shown_on
    assert "| fooled | 1 | +0.250 |" in shown_on
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(UsageError, match="--commit"):
        taken.take([tmp_path], None)
    monkeypatch.setattr(taken, "parts_of", lambda commit: {"attack": "0", "weights mini": commit})
    taken.take([tmp_path], "abc")
    again = record.read("study-toy-mini-vit", tmp_path)
    assert (again.parts, again.made["commit"]) == ({"attack": "0", "weights mini": "abc"}, "abc")
    assert replace(again, made=found.made, parts=found.parts) == found


def test_a_column_without_a_format_is_refused() -> None:
    with pytest.raises(UsageError, match="column never seen"):
        taken.row("toy", {"never seen": "0.2500"})


def test_what_was_not_measured_is_a_dash() -> None:
    rows = [{"file": file, "model": model, "caught": 0.5} for file, model in (("a", "x"), ("a", "y"), ("b", "x"))]
    wide = spread(rows, ("file",), ("model",))
    assert [each["y caught"] for each in wide] == [0.5, None]
    assert shown(wide[1]["y caught"], ".0%") == "–"
    with pytest.raises(UsageError, match="two rows are one"):
        spread([*rows, rows[0]], ("file",), ("model",))
