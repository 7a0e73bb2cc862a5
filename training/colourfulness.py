"""A head on `mini`'s embeddings that says how colourful a picture is: what `--score aesthetic` has without a download.

    python -m training.colourfulness --data DATA

Targets are ranks of colourfulness (Hasler and Süsstrunk 2003) among the pictures, from 1 to 10, fitted by ridge
regression on unit embeddings. Prints the rank correlation on pictures that were not fitted.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import rankdata, spearmanr

from foclip.models import load_encoder
from foclip.models.scores.aesthetic import BEST, COLOURFULNESS

#: Pictures that are fitted, and that are left out to measure.
FITTED, MEASURED = 6000, 2000
#: Weight of the ridge.
RIDGE = 1.0


def colourfulness(picture: Image.Image) -> float:
    """How colourful a picture is: spread and mean of its opponent colours (equation 9 of the paper)."""
    red, green, blue = np.asarray(picture, dtype=float).reshape(-1, 3).T
    first, second = red - green, (red + green) / 2 - blue
    return float(np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean()))


def main() -> None:
    """Fit, measure and write the head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    rows = pq.read_table(options.data / "tiny-imagenet" / "train-0.parquet", columns=["image"]).column("image")
    content = rows.slice(0, FITTED + MEASURED).to_pylist()
    pictures = [Image.open(io.BytesIO(each)).convert("RGB") for each in content]
    wanted = 1 + (BEST - 1) * (rankdata([*map(colourfulness, pictures)]) - 1) / (len(pictures) - 1)
    embedded = load_encoder("mini", "cpu").encode_pictures(pictures).double().numpy()
    mean = wanted[:FITTED].mean()
    fitted = embedded[:FITTED]
    weight = np.linalg.solve(fitted.T @ fitted + RIDGE * np.eye(fitted.shape[1]), fitted.T @ (wanted[:FITTED] - mean))
    found = embedded[FITTED:] @ weight + mean
    print(f"rank correlation on {MEASURED} others: {spearmanr(found, wanted[FITTED:]).statistic:.3f}")
    print(f"figures from {found.min():.2f} to {found.max():.2f}, mean {found.mean():.2f}")
    head = {
        "weight": torch.tensor(weight[None], dtype=torch.float32),
        "bias": torch.tensor([mean], dtype=torch.float32),
    }
    save_file(head, COLOURFULNESS)


if __name__ == "__main__":
    main()
