"""Figures in the sentences of README and docs that are neither put there from records nor allowed.

What counts as a figure: shares, decimals, times, JOD, multiples, and numbers of so many. Code, links and what
`benchmarks.docs` puts into a page are left out. `benchmarks/allowed.txt` has the exact words of a page around figures
that are no measurements of ours (constants and bounds, what others published), under a heading that says why.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed.txt")
#: What is no prose. What a command prints is prose, unless it comes from a record.
LEFT_OUT = re.compile(
    "|".join(
        (
            r"^( *)```\w+$.*?^\1```",  # code
            r"^ *```\n *(?:\w+=\S+ )?(?:foclip|python3?|pip) .*?(?=\n\n|^ *```)",  # commands, up to what they print
            *(r"(?<=\n\n)(?:    [^\n]*\n)+", r"`[^`\n]*`"),  # the same, indented or within a line
            *("<!-- figures: .*?<!-- end -->", "<!--=.*?<!--/-->", "<!--.*?-->"),  # from records, and comments
            *(r"\]\([^)]*\)", r"https?://\S+", r"arXiv\s+\d+\.\d+", r"\d+(?:\.\d+){2,}"),  # addresses and versions
        )
    ),
    re.DOTALL | re.MULTILINE,
)
FIGURE = re.compile(
    r"(?<![\w.-])(?:"
    r"[+−-]?\d[\d,]*(?:\.\d+)?(?: ?%|‰| points)"  # shares
    r"|[+−-]?\d[\d,]*\.\d+"  # decimals
    r"|\d[\d,]* ?(?:ms|s|seconds?|minutes?|hours?|days?|JOD|MiB|GiB|pictures/s)\b"
    r"|\d[\d,]* (?:×(?! ?\d)|times\b)"
    r"|\d[\d,]* of (?:the )?\d[\d,]*\b)"
)


def allowed(path: Path = ALLOWED) -> dict[str, list[str]]:
    """By page, words that may hold figures."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("# ", "[")):
            page, _, words = line.partition(": ")
            found.setdefault(page, []).append(words)
    return found


def uncited(pages: Mapping[str, str], words: Mapping[str, list[str]] | None = None) -> Iterator[str]:
    """A line for each figure in a sentence that comes from nowhere, and for each that is allowed but not there."""
    words = allowed() if words is None else words
    for page, text in pages.items():
        bare = LEFT_OUT.sub(_blank, text)
        for each in words.get(page, []):
            # Lines may break anywhere in words that are allowed. A section ends where the next one begins.
            pattern = r"\s+".join(map(re.escape, each.split())) + (r"$.*?(?=^## |\Z)" if each.startswith("## ") else "")
            bare, count = re.subn(pattern, _blank, bare, flags=re.DOTALL | re.MULTILINE)
            if not count:
                yield f"{page}: {each!r} is allowed (benchmarks/allowed.txt), and not there"
        for found in FIGURE.finditer(bare):
            number = bare.count("\n", 0, found.start()) + 1
            line = text.splitlines()[number - 1].strip()
            yield f"{page}:{number}: {found[0].strip()!r} comes from no record: {line}"
    yield from (f"benchmarks/allowed.txt: there is no {page}" for page in words if page not in pages)


def _blank(found: re.Match[str]) -> str:
    """As many characters that are no figures, on as many lines: places stay those of the page."""
    return re.sub(r"[^\n]", "\0", found[0])
