"""What a study is, what it works with, and how it is run.

A study is a module in this package with two functions:

- ``table(lab)`` does the work and returns a tidy table, one row per picture and condition;
- ``page(table)`` makes of nothing but that table what the report shows: a summary,
  figures, findings, and figures of the paper with ours beside them.

Where one would rather look at the pictures themselves, ``gallery(lab)`` may draw them as further figures.

The first line of its docstring is its title in the report, the rest says what it asks.
"""

import importlib
import io
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from markupsafe import Markup
from matplotlib.figure import Figure
from torch import Tensor

from foclip import files, images
from foclip.attacks import Attack, Checkpoints, FoCLIP, Trajectory
from foclip.attacks.base import default_batch_size
from foclip.attacks.foclip import objective
from foclip.detection import TRANSFORMATIONS, Sensitivity, measure
from foclip.encoders import DualEncoder, Encoder
from foclip.errors import UsageError
from foclip.fidelity import fidelity
from foclip.fooling import Failure
from foclip.prompts import ARTWORKS
from foclip.report import figure
from foclip.score import score_picture
from foclip.studies import pictures
from foclip.studies.cells import Cells
from foclip.studies.pictures import Picture
from foclip.studies.statistics import Estimate

# What studies cost in thousands of steps × pictures, quick and in full, with `mini` and a second encoder; a step with v
# views counts 1 + v times, a query of CMA-ES a third, and what an earlier study has done already nothing.
#
#   ablation 11, 168 · adaptive 11, 168 · artworks 6, 96 · imagenet 16, 288 · long 4, 244 · modality_gap 3, 48 ·
#   sweep 7, 136 · tau 5, 48 · transfer 10, 84 · grayscale, spectrum none

#: Fidelity budget of every attack that has one, dB.
BUDGET = 35.0
#: Crops that thresholds are chosen on, at least, if there are photos enough.
EXAMPLES = 48
#: Files of a study that are read again.
TABLE, SECONDS = "table.parquet", "seconds.csv"
#: Pictures in flight at most, where the encoder allows more than one: a small tower works better on a larger batch.
LANES = 12
#: Pictures measured between two writes.
CHUNK = 16

#: Called with a study's name and the number of its parts, gives what to call with the number done so far.
Track = Callable[[str, int], Callable[[float], None]]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Settings:
    """What a run of studies depends on besides its encoders.

    Attributes:
        quick: Fewer pictures and steps.
        images: Folder of the reader's pictures; None for the photos that ship with dependencies.
        paintings: Folder of real paintings, for `artworks`.
        seed: Seeds the draws of pictures and prompts, and the attacks.
    """

    quick: bool = False
    images: Path | None = None
    paintings: Path | None = None
    seed: int = 0

    @property
    def count(self) -> int:
        """Pictures at most."""
        return 8 if self.quick else 12

    @property
    def steps(self) -> int:
        """Updates per picture of an attack."""
        return 100 if self.quick else 1000


@dataclass(frozen=True, eq=False)
class FooledPicture(Picture):
    """A fooled picture, as read back from its file.

    Attributes:
        figures: `psnr` (dB; None where equal), `ssim`, `linf`, `steps` and `seconds`.
    """

    figures: dict[str, Any] = field(default_factory=dict)


class Lab:
    """What studies work with: encoders, pictures, prompts, and work that is done once.

    Args:
        encoders: The one that is studied, and further ones for `transfer`.
        out: Folder of the run; finished work is kept in `out`/cells.
        settings: Sizes, pictures, seed.
        track: Progress.

    Attributes:
        side: Longest side of a picture, in pixels; larger ones are scaled down, for every pixel costs at every
            step. Twice the encoder's input, and at least 256.
        prompts: The prompts of all studies but `imagenet`: the ten artworks.
        failures: Pictures that could not be read.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        out: Path,
        settings: Settings,
        track: Track = lambda study, parts: lambda done: None,
    ) -> None:
        self.encoder, self.encoders = encoders[0], list(encoders)
        self.settings = settings
        self.quick = settings.quick
        self.side = max(256, 2 * max(self.encoder.image_size))
        self.prompts: tuple[str, ...] = ARTWORKS
        self.failures: list[Failure] = []
        self.study = ""
        self._cells = Cells(out / "cells")
        self._track = track
        self._report: Callable[[float], None] = lambda part: None
        self._texts: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    @cached_property
    def files(self) -> list[Path]:
        """The photos of this run."""
        return pictures.choose(self.settings.images, self.settings.count, self.settings.seed)

    @cached_property
    def pictures(self) -> list[Picture]:
        """The pictures that are fooled, whole.

        Raises:
            UsageError: Fewer than two of the files can be read, and one picture has no spread.
        """
        found = pictures.read(self.files, self.side, self.failures)
        if len(found) < 2:
            raise UsageError(f"--images {self.settings.images}: {len(found)} readable pictures; give at least 2")
        return found

    @cached_property
    def examples(self) -> list[Picture]:
        """Enough pictures to choose thresholds on: crops of every photo, fewer of each the more photos there are."""
        each = min(len(pictures.CORNERS), -(-EXAMPLES // len(self.files)))
        return pictures.crops(self.files, each, self.side, [])

    @cached_property
    def paintings(self) -> list[Picture]:
        """The reader's paintings; none without a folder of them."""
        if self.settings.paintings is None:
            return []
        found = pictures.in_folder(self.settings.paintings, "--paintings")
        return pictures.read(found, self.side, self.failures)

    def default_attack(self) -> FoCLIP:
        """FoCLIP with its default weights within the budget; most studies look at its pictures."""
        return FoCLIP(objective=objective(), steps=self.settings.steps, min_psnr=BUDGET, seed=self.settings.seed)

    def each(self, parts: Sequence[Item]) -> Iterator[Item]:
        """The parts of a study one by one, with progress."""
        advance = self._track(self.study, len(parts))
        for number, part in enumerate(parts):
            self._report = lambda done, number=number: advance(number + done)  # type: ignore[misc]
            yield part
            advance(number + 1)
        self._report = lambda part: None

    def texts(self, encoder: DualEncoder, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (T, D) of prompts."""
        key = (encoder.fingerprint, tuple(prompts))
        if key not in self._texts:
            self._texts[key] = encoder.encode_texts(list(prompts))
        return self._texts[key]

    def fool(
        self,
        attack: Attack,
        originals: Sequence[Picture],
        prompts: Sequence[str] | None = None,
        encoder: DualEncoder | None = None,
    ) -> list[FooledPicture]:
        """Fool pictures; each is fooled once, whoever asks, and read from disk from then on.

        Args:
            attack: The attack.
            originals: The pictures.
            prompts: For all of them; None for `self.prompts`.
            encoder: None for `self.encoder`.
        """
        chosen, wanted = encoder or self.encoder, tuple(prompts or self.prompts)
        if default_batch_size(chosen) > 1:
            attack = replace(attack, batch_size=max(1, min(len(originals), LANES)))
        keys = [self._cells.key("fooled", p.digest, wanted, attack, chosen.fingerprint) for p in originals]
        for key in keys:  # a cell counts if its picture is there too
            if not self._cells.path(key, ".png").is_file():
                self._cells.path(key).unlink(missing_ok=True)

        def compute(places: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            steps, finished = max(attack.steps, 1) * len(places), 0

            def on_step(lanes: Sequence[Trajectory]) -> None:
                self._report((finished + sum(lane.step for lane in lanes)) / steps)

            queue = (images.to_tensor(originals[place].image) for place in places)
            kept = Checkpoints(self._cells.folder / "unfinished")
            for fooled in attack.run(chosen, queue, self.texts(chosen, wanted), on_step, kept):
                finished += attack.steps
                place = places[fooled.index]
                images.write(images.to_image(fooled.pixels), self._cells.path(keys[place], ".png"))
                close = fidelity(fooled.pixels, images.to_tensor(originals[place].image))
                figures = {"psnr": close.psnr, "ssim": close.ssim, "linf": close.linf}
                yield place, figures | {"steps": fooled.steps, "seconds": round(fooled.seconds, 3)}

        found = self._cells.fill(keys, compute)
        return [
            FooledPicture(original.name, original.photo, images.read(self._cells.path(key, ".png")), figures)
            for original, key, figures in zip(originals, keys, found, strict=True)
        ]

    def scores(
        self, looked_at: Sequence[Picture], prompts: Sequence[str] | None = None, encoder: DualEncoder | None = None
    ) -> npt.NDArray[np.float64]:
        """CLIPScore (w = 2.5) of pictures with each prompt, (P, T), as `foclip score` gives it."""
        chosen, wanted = encoder or self.encoder, tuple(prompts or self.prompts)
        texts = self.texts(chosen, wanted)

        def compute(places: list[int]) -> Iterator[tuple[int, list[float]]]:
            for place in places:
                yield place, score_picture(chosen, looked_at[place].image, texts)

        keys = [self._cells.key("scores", p.digest, wanted, chosen.fingerprint) for p in looked_at]
        return np.array(self._cells.fill(keys, compute)).reshape(len(looked_at), len(wanted))

    def sensitivities(
        self,
        looked_at: Sequence[Picture],
        prompts: Sequence[str] | None = None,
        encoder: Encoder | None = None,
    ) -> list[Sensitivity]:
        """Sensitivities of pictures to every transformation."""
        chosen, wanted = encoder or self.encoder, tuple(prompts or self.prompts)

        def compute(places: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            for first in range(0, len(places), CHUNK):
                chunk = places[first : first + CHUNK]
                found = measure(
                    chosen, [looked_at[p].image for p in chunk], self.texts(chosen, wanted), list(TRANSFORMATIONS)
                )
                yield from zip(chunk, map(vars, found), strict=True)

        keys = [self._cells.key("sensitivity", p.digest, wanted, chosen.fingerprint) for p in looked_at]
        return [Sensitivity(**found) for found in self._cells.fill(keys, compute)]

    def vector(
        self, kind: str, looked_at: Sequence[Picture], prompts: Sequence[str], compute: Callable[[], Tensor]
    ) -> Tensor:
        """A vector (D,) drawn from pictures, prompts and `self.encoder`, the same to the last bit once it is made.

        Other numbers of threads round sums otherwise, and what is fooled through such a vector is another cell then.

        Args:
            kind: What it is.
            looked_at: The pictures.
            prompts: The prompts.
            compute: Makes it; float32.
        """
        digests = [picture.digest for picture in looked_at]
        key = self._cells.key(kind, digests, tuple(prompts), self.encoder.fingerprint)
        (kept,) = self._cells.fill([key], lambda places: ((place, compute().tolist()) for place in places))
        return torch.tensor(kept, device=self.encoder.device)

    def rows(
        self,
        looked_at: Sequence[Picture],
        prompts: Sequence[str] | None = None,
        encoder: DualEncoder | None = None,
        **same: object,
    ) -> list[dict[str, Any]]:
        """One row of a table per picture: who it is, its scores, and for a fooled one its fidelity.

        Args:
            looked_at: Originals or fooled pictures.
            prompts: None for `self.prompts`.
            encoder: None for `self.encoder`.
            same: Columns that are the same in all these rows.

        Returns:
            `same`, `picture`, `photo`, `score` (mean CLIPScore over the prompts), `lowest` (of a prompt),
            `spread` (standard deviation over the prompts), and `psnr`, `ssim`, `linf`, `steps`, `seconds`.
        """
        rows = []
        for picture, scores in zip(looked_at, self.scores(looked_at, prompts, encoder), strict=True):
            row = same | {"picture": picture.name, "photo": picture.photo}
            row |= {"score": scores.mean(), "lowest": scores.min(), "spread": scores.std()}
            rows.append(row | (picture.figures if isinstance(picture, FooledPicture) else {}))
        return rows


@dataclass(frozen=True)
class Beside:
    """A figure of the paper, and ours.

    Attributes:
        quantity: What it is, and of what ours is measured.
        paper: The paper's, as a share (0.427 for 42.7 %).
        ours: Ours, as a share.
    """

    quantity: str
    paper: float
    ours: Estimate


@dataclass(frozen=True)
class Page:
    """What the report shows of a study.

    Attributes:
        summary: Small table; estimates in it come with intervals.
        figures: Figures by file name; the name is the caption too.
        findings: Sentences drawn from the numbers.
        beside: Figures of the paper with ours.
    """

    summary: pd.DataFrame
    figures: dict[str, Figure]
    findings: list[str]
    beside: list[Beside] = field(default_factory=list)


class Study(Protocol):
    """A module of this package; its docstring is the title and the question."""

    @staticmethod
    def table(lab: Lab) -> pd.DataFrame:
        """The study's numbers, one row per picture and condition."""

    @staticmethod
    def page(table: pd.DataFrame) -> Page:
        """What the report shows, made from the table alone."""


@dataclass(frozen=True)
class Finished:
    """A study that is done.

    Attributes:
        name: Its name, and that of its folder.
        title: First line of its docstring.
        question: The other paragraphs of it.
        rows: Rows of its table.
        page: What the report shows.
        drawings: Its figures as SVG, drawn once for all reports to come.
    """

    name: str
    title: str
    question: list[str]
    rows: int
    page: Page
    drawings: dict[str, Markup]


def names() -> list[str]:
    """Names of all studies: the modules of this package that have a table and a page."""
    package = importlib.import_module("foclip.studies")
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in modules if {"table", "page"} <= vars(_module(name)).keys())


def _module(name: str) -> Any:
    return importlib.import_module(f"foclip.studies.{name}")


def reproduce(studies: Sequence[str], lab: Lab, out: Path) -> Iterator[Finished]:
    """Run studies; yields each once its tables and figures are written to `out`/<study>.

    `table.csv` and `table.parquet` hold the same numbers, and the same ones
    however often the run was cut off. What depends on the machine's mood is
    apart: `seconds.csv`, row by row.

    Args:
        studies: Names in `names`.
        lab: What they work with.
        out: Folder of the run.
    """
    for name in studies:
        lab.study, study = name, _module(name)
        table = study.table(lab)
        finished = _finish(name, table, study.gallery(lab) if hasattr(study, "gallery") else {})
        _write(files.output_folder(out / name), table, finished)
        yield finished


def read(name: str, out: Path) -> Finished:
    """A study that an earlier run has finished, its page made anew from its tables; without its gallery.

    Args:
        name: One of `names`.
        out: Folder of that run.

    Raises:
        OSError: The run has no tables of this study.
    """
    table = pd.read_parquet(out / name / TABLE)
    if (out / name / SECONDS).is_file():
        table["seconds"] = pd.read_csv(out / name / SECONDS).seconds
    return _finish(name, table, {})


def _finish(name: str, table: pd.DataFrame, gallery: dict[str, Figure]) -> Finished:
    study = cast(Study, _module(name))
    page = study.page(table)
    page = replace(page, figures=page.figures | gallery)
    title, *question = (" ".join(part.split()) for part in (study.__doc__ or name).strip().split("\n\n"))
    drawings = {caption: figure(plot) for caption, plot in page.figures.items()}
    return Finished(name, title, question, len(table), page, drawings)


def _write(folder: Path, table: pd.DataFrame, finished: Finished) -> None:
    timed = [column for column in table.columns if column == "seconds"]
    kept = table.drop(columns=timed)
    files.write_text(folder / "table.csv", kept.to_csv(index=False))
    buffer = io.BytesIO()
    kept.to_parquet(buffer, index=False)
    files.write_bytes(folder / TABLE, buffer.getvalue())
    if timed:
        files.write_text(folder / SECONDS, table[timed].to_csv(index=False))
    for name, plot in finished.page.figures.items():
        files.write_text(folder / f"{name}.svg", finished.drawings[name])
        files.write_bytes(folder / f"{name}.png", png(plot, 200))


def png(plot: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()
