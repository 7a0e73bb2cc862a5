"""How tables look on pages: which figures, in which columns, with how many digits; and records of older code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layout:
    """A table of a page."""

    sources: Sequence[str]  #: Tables whose rows it shows, each RECORD/TABLE.
    columns: Mapping[
        str, str
    ]  #: By its heading, a cell: `{column:format}` is a figure of the row, `i` its interval too.
    where: Mapping[str, Sequence[Any]] = field(
        default_factory=dict
    )  #: Values of a column whose rows are shown, in order.
    by: Sequence[str] = ()  #: With `over`: columns whose every combination has one row.
    over: Sequence[str] = ()  #: Columns whose values begin the names of others: `{40 dB rise:.2f}`.


#: Formats in summaries of studies, by study ("" for all) and a pattern of the column; the last that fits counts.
STUDY_FORMATS = {
    ("", r"pictures|photos|steps"): ",",
    ("", r"score.*|lowest.*|spread.*|before|after|unseen .*|SSIM|FLIP.*|drift.*|originals|fooled"): "i.3f",
    ("", r"PSNR.*|ΔE, worst|seconds"): "i.1f",
    ("", r"budget / dB|value"): "g",
    ("", r"AUC|ΔE|contrast|z.*"): "i.2f",
    ("", r"drop.*|lost.*"): "i.1%",
    ("", r"called tampered by.*|caught by.*|.*outranks.*|best caption kept"): "i.0%",
    ("", r"score gain|rise|on the.*|undetected.*|gain of.*"): "i+.3f",
    ("", r"distance of the centroids"): ".3f",
    ("", r"Cohen's d"): "i+.2f",
    ("", r"gap closed"): ".0%",
    ("", r"called tampered|of these get in|with the detector|comes first for|for other captions|above .*"): "i.1%",
    ("imagenet", "rise"): "i+.1%",
}
TABLES: dict[str, Layout] = {}
#: Records that rest on other weights, detectors or attacks than today's, and why they are not yet made anew.
OLDER: dict[str, str] = dict.fromkeys(
    (f"study-{name}" for name in ("ablation", "adaptive", "artworks", "grayscale", "imagenet", "long", "modality_gap")),
    "full runs take hours; of before attacks had revisions",
) | dict.fromkeys(
    (f"study-{name}" for name in ("robust", "spectrum", "sweep", "tau", "transfer")),
    "full runs take hours; of before attacks had revisions",
)
