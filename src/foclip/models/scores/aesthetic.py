"""LAION's aesthetic predictors: how well people like a picture, by a small head on a CLIP embedding; no prompt."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from foclip.errors import UsageError
from foclip.models.encoder import Encoder
from foclip.models.registry import load_encoder
from foclip.models.scorer import ScoreInfo, Targets
from foclip.models.scores.clip import EmbeddingScore

#: Votes go from 1 to 10.
BEST = 10.0
#: A head for `mini` that tells how colourful a picture is (`training/colourfulness.py`).
COLOURFULNESS = Path(__file__).parent / "colourfulness.safetensors"


class Aesthetic(EmbeddingScore):
    """How well people like a picture, about 1 to 10, by LAION's linear or MLP head on the unit embedding; no prompt.

    The linear heads are for OpenAI's ViT-L/14, B/32 and B/16 (github.com/LAION-AI/aesthetic-predictor, MIT), the MLP
    `sac+logos+ava1-l14-linearMSE.pth`, whose layers have nothing between them, for ViT-L/14
    (github.com/christophschuhmann/improved-aesthetic-predictor, Apache-2.0). Without a head, `mini` has one of ours,
    which tells how colourful a picture is, no more. Needs: nothing for `mini`; else --score aesthetic:HEAD_FILE and the
    head's own encoder, --model ViT-L-14-quickgelu/openai.
    """

    name = "aesthetic"
    info = ScoreInfo(name, scale=BEST, floor=1.0, temperature=0.01, prompts="none", highest=math.inf)

    def __init__(self, encoder: Encoder, head: str | Path) -> None:
        super().__init__(encoder)
        from foclip.models.checkpoints import tensors  # open_clip takes seconds to import

        self._head = linear_head(Path(head), tensors(Path(head))).to(encoder.device)
        self._told = str([value.sum().item() for value in self._head.state_dict().values()])
        wanted = next(layer.in_features for layer in self._head if isinstance(layer, nn.Linear))
        if (found := encoder.embed(torch.zeros(1, 3, *encoder.image_size)).shape[1]) != wanted:
            raise UsageError(f"{head}: a head for embeddings of {wanted} numbers, but {encoder.name} gives {found}")

    @classmethod
    def load(cls, model: str | Encoder, device: torch.device, head: str = "") -> "Aesthetic":
        """The score by the head in a file, over its encoder."""
        encoder = load_encoder(model, device) if isinstance(model, str) else model
        if not head and encoder.name != "mini":
            raise UsageError(f"{cls.name}: give the head for {encoder.name}, --score aesthetic:HEAD_FILE")
        return cls(encoder, head or COLOURFULNESS)

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {self._told}"

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return torch.empty(0, device=self.device)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        return torch.as_tensor(self._head(embeddings) / BEST)


def linear_head(path: Path, state: dict[str, Tensor]) -> nn.Sequential:
    """A head of linear layers with the weights of a file; a `UsageError` if they are of something else.

    Numbers in the names tell whether there is a ReLU after each layer: 0, 2, 4, 6, 7 in the MLP without, 0, 3, 6, 9, 11
    in the one with; what else is counted is dropout, which does nothing here.
    """
    weights = sorted((name for name in state if name.endswith("weight")), key=_place)
    gaps = [second - first for first, second in zip(map(_place, weights), map(_place, weights[1:]), strict=False)]
    layers: list[nn.Linear] = []
    for name in weights:
        weight, bias = state[name].float(), state.get(f"{name.removesuffix('weight')}bias")
        if weight.ndim != 2 or (layers and layers[-1].weight.shape[0] != weight.shape[1]):
            raise UsageError(f"{path}: no head of linear layers")
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        layer.weight.data = weight
        if bias is not None:
            layer.bias.data = bias.float()
        layers.append(layer)
    if not layers or layers[-1].weight.shape[0] != 1:
        raise UsageError(f"{path}: no head that gives one figure")
    between = [nn.ReLU()] if 3 in gaps else []
    parts = [part for layer in layers[:-1] for part in (layer, *between)]
    return nn.Sequential(*parts, layers[-1]).eval().requires_grad_(False)


def _place(name: str) -> int:
    """The number of a layer in a weight's name; 0 where there is one layer without a number."""
    return next((int(part) for part in name.split(".") if part.isdigit()), 0)
