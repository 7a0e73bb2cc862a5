"""Drawn pictures, which no photograph is like: charts and pages of text, other ones for every seed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont


def charts(count: int, seed: int) -> Iterator[Image.Image]:
    """Charts of random numbers."""
    rng = np.random.default_rng(seed)
    for kind in rng.integers(0, 4, count):
        plot = Figure(figsize=(rng.uniform(3, 7), rng.uniform(3, 5)), dpi=80)
        canvas: Any = FigureCanvasAgg(plot)
        axes = plot.subplots()
        if kind == 0:
            axes.plot(np.cumsum(rng.normal(size=(50, rng.integers(1, 5))), axis=0))
        elif kind == 1:
            axes.bar(range(8), rng.uniform(size=8), color=rng.uniform(size=(8, 3)))
        elif kind == 2:
            x, y = rng.normal(size=(2, 80))
            axes.scatter(x, y, c=rng.uniform(size=(80, 3)))
        else:
            axes.pie(rng.uniform(0.2, 1, size=5), colors=rng.uniform(size=(5, 3)).tolist())
        canvas.draw()
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def pages(count: int, seed: int) -> Iterator[Image.Image]:
    """Pages of random words."""
    rng = np.random.default_rng(seed)
    inks = [((20, 20, 20), (255, 255, 255)), ((30, 40, 120), (250, 245, 230)), ((240, 240, 230), (20, 30, 60))]
    words = ["the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "page"]
    for ink, paper_ in (inks[i % 3] for i in range(count)):
        width, height, size = (int(rng.integers(low, high)) for low, high in ((300, 700), (300, 800), (10, 28)))
        page = Image.new("RGB", (width, height), paper_)
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
        for y in range(12, height - 20, int(1.4 * size)):
            draw.text((12, y), " ".join(rng.choice(words, size=max(3, width // (3 * size)))), fill=ink, font=font)
        yield page
