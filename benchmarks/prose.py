"""Figures in the sentences of README and docs that are neither put there from records nor allowed.

What counts as a figure: shares, decimals, times, JOD, multiples, and numbers of so many. Code, links and what
`benchmarks.docs` puts into a page are left out. `benchmarks/allowed.txt` has the exact words of a page around figures
that are no measurements of ours (constants and bounds, examples, what others published), under a heading that says why.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed.txt")
#: What is no prose: code, what is put there, comments, and addresses of links.
LEFT_OUT = re.compile(
    r"^( *)```.*?^\1```|^    .*?$|`[^`\n]*`|<!-- figures: .*?<!-- end -->|<!--=.*?<!--/-->|<!--.*?-->|\]\([^)]*\)|"
    r"https?://\S+|arXiv\s+\d+\.\d+",
    re.DOTALL | re.MULTILINE,
)
WORDS = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|half|third|quarter|fifth|tenth)"
FIGURE = re.compile(
    r"[+−-]?\d[\d,]*(?:\.\d+)?(?: ?%|‰| points)"  # shares
    r"|[+−-]?\b\d[\d,]*\.\d+(?!\.\d)"  # decimals
    r"|\b\d[\d,]* ?(?:ms|s|seconds?|minutes?|hours?|days?|JOD|MiB|GiB|dB higher|pictures/s)\b"
    r"|\b\d[\d,.]* ?×(?! ?\d)|\b[\d.]+ times\b"
    r"|\b\d[\d,]* of (?:the )?\d[\d,]*\b"
)


def allowed(path: Path = ALLOWED) -> dict[str, list[str]]:
    """By page, words that may hold figures. A line is `PAGE: WORDS`; headings in brackets say why; `#`: a comment."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            page, _, words = line.partition(": ")
            found.setdefault(page, []).append(words)
    return found


def uncited(pages: Mapping[str, str], words: Mapping[str, list[str]] | None = None) -> Iterator[str]:
    """A line for each figure in a sentence that comes from nowhere, and for each that is allowed but not there."""
    words = allowed() if words is None else words
    for page, text in pages.items():
        # Letters of the same number, so that places stay those of the page; lines may break within allowed words.
        bare = LEFT_OUT.sub(lambda found: re.sub(r"[^\n]", "\0", found[0]), text)
        for each in words.get(page, []):
            pattern = r"\s+".join(map(re.escape, each.split()))
            if not re.search(pattern, bare):
                yield f"{page}: allows {each!r}, which is not there (benchmarks/allowed.txt)"
            bare = re.sub(pattern, lambda found: re.sub(r"[^\n]", "\0", found[0]), bare)
        for found in FIGURE.finditer(bare):
            number = bare.count("\n", 0, found.start()) + 1
            line = text.splitlines()[number - 1].strip()
            yield f"{page}:{number}: {found[0].strip()!r} comes from no record: {line}"
    yield from (f"benchmarks/allowed.txt: there is no {page}" for page in words if page not in pages)
