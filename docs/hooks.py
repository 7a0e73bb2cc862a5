"""What the site has beside the pages of this folder: the command line's help, and files of the repository's root.

Links in the pages are those that work in the repository. Links to what the site has too (CONTRIBUTING, model cards) are
turned to its copy; links to source files become plain text.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.main import get_command
from typer.testing import CliRunner

from foclip.cli import app

ROOT = Path(__file__).parents[1]
CARDS = "src/foclip/models/embedded"
#: Pages of the site by the files of the repository that they are.
COPIES = {
    **{name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")},
    "training/README.md": "training/README.md",
    **{
        f"{CARDS}/{card.parent.name}/README.md": f"models/{card.parent.name}.md"
        for card in (ROOT / CARDS).glob("*/*.md")
    },
}
COMMANDS = "reference/command-line.md"
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file of this folder holds."""
    for source, page in COPIES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, COMMANDS, content="\n".join(command_line())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages."""
    here = page.file.src_uri
    source = next((source for source, copy in COPIES.items() if copy == here), posixpath.join("docs", here))

    def turned(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        if "://" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        aim = COPIES.get(path) or path.removeprefix("docs/")
        if files.get_file_from_path(aim) is None:
            return text if (ROOT / path).exists() else link[0]  # source code; or a broken link, which the build reports
        return f"[{text}]({posixpath.relpath(aim, posixpath.dirname(here) or '.')}{anchor})"

    return LINK.sub(turned, markdown)


def command_line() -> Iterator[str]:
    """The page of the command line, in Markdown: what `--help` of each command prints."""
    yield "# Command line\n\nThis is what `foclip COMMAND --help` prints.\n"
    for name in get_command(app).commands:  # type: ignore[attr-defined]  # a group of commands
        shown = CliRunner().invoke(app, [name, "--help"], prog_name="foclip", env={"COLUMNS": "100", "TERM": "dumb"})
        lines = [line.rstrip() for line in shown.output.splitlines()]
        yield f"## foclip {name}\n\n```text"
        yield from (line for line in lines if line)
        yield "```\n"
