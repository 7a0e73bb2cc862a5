"""What newer trees call otherwise, and what may differ: the tables that `benchmarks.golden` compares by.

The cases are written in the words of `BASE`. When something gets another name, add it here: old → new. `FLAGS` and
`RESTATED` change what runs in new trees; `KEYS`, `VALUES` and `FILES` are applied to what the old tree wrote.
"""

#: The commit whose words the cases are written in. A tree is old if its `src` is that of this commit.
BASE = "b56d6bb"

#: Flags by command, with or without a value: {"detect --draw": "--seed", "detect --by rule": "--method rule"}.
FLAGS: dict[str, str] = {}
#: Cases that need more than another flag, whole: {"library-mean": "…the same in the words of the new tree"}.
RESTATED: dict[str, str] = {}
#: Keys of JSON and columns of tables: {"looks": "probes"}.
KEYS: dict[str, str] = {}
#: Texts that are values: {"combined": "cascade"}.
VALUES: dict[str, str] = {}
#: Files and folders: {"verdicts.csv": "detections.csv"}.
FILES: dict[str, str] = {}

#: Files of which only the numbers count, in their order: detectors, whose features change their names.
NUMBERS_ONLY = ("calibrate/detector.json",)

#: Differences that do not count, and why. The patterns (of `fnmatch`) are for "case/file:key.of.the.value".
EXPECTED: dict[str, str] = {
    "*/run.json:*": "how to run it again: command line, versions, time",
    "*.html:*": "reports are for people; their numbers are in other files",
    "*.svg:*": "its elements have random names; the same figures are compared as PNG",
    "*.md:*": "cards are for people; their numbers are in other files",
    "*/stderr-*.txt:*": "messages",
    "*/stdout-*.txt:*": "tables for people",
    "*/.unfinished/*": "unfinished work, named by digests",
    "*/cells/*": "finished work of studies, named by digests; what came of it is in their tables",
    "*:*.key": "names work: a digest of settings by their names",
    "*/manifest.json:judge.*": "names work: a digest of settings by their names",
    "*:*fingerprint*": "digest of score, weights and preprocessing",
    "*/seconds.csv:*": "time",
    "*:*seconds": "time",
    "*:*versions*": "versions of packages",
}
