"""Two small scores as another package would add them: one with cross-attention, and one without prompts.

Neither has an embedding. The folder of this module is made importable, with the entry points beside it, by whoever
wants the scores to be found (`conftest.toys`).
"""

import hashlib
import zlib
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from foclip.errors import EncoderError
from foclip.models.encoder import Encoder
from foclip.models.preprocess import Preprocess
from foclip.models.scorer import ScoreInfo

WIDTH, SIDE, PATCH, WORDS = 16, 32, 8, 6


def unit_interval(pixels: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]; those of uint8 are divided by 255."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(255)


class Toy:
    """What both have in common: a preprocessing, random weights that a seed makes, and no embedding."""

    info: ScoreInfo

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.device = device
        self.model = "toy"
        self.preprocess = Preprocess((SIDE, SIDE), device=device)
        self.parameter_count = sum(parameter.numel() for parameter in network.parameters())

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.info.name} {self.preprocess.description}".encode())
        for name, weight in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + weight.cpu().numpy().tobytes())
        return digest.hexdigest()


class CrossNetwork(nn.Module):
    """Words look at patches of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.words = nn.Embedding(64, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, pixels: Tensor, words: Tensor) -> Tensor:
        patches = self.patches(2 * pixels - 1).flatten(2).transpose(1, 2)
        asked = words.expand(len(pixels), -1, -1)
        found = self.attention(asked, patches, patches, need_weights=False)[0]
        return torch.tanh(self.head(torch.tanh(found + asked)).mean(dim=(1, 2)))


class Cross(Toy):
    """Cross-attention between words and patches; every prompt takes a pass of its own."""

    info = ScoreInfo("toy", scale=1.0, floor=0.1, temperature=0.1)
    network: CrossNetwork

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        words = [
            [zlib.crc32(word.encode()) % 64 for word in f"{prompt} . . . . . .".split()[:WORDS]] for prompt in prompts
        ]
        embedded: Tensor = self.network.words(torch.tensor(words, device=self.device))
        return embedded

    def __call__(self, pixels: Tensor, targets: Tensor) -> Tensor:
        seen = unit_interval(pixels)
        return torch.stack([self.network(seen, words[None]) for words in targets], dim=1)


class Taste(Toy):
    """How much the toy likes a picture; it is asked nothing."""

    info = ScoreInfo("toy-taste", scale=10.0, floor=1.0, prompts="none")

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return torch.empty(0, device=self.device)

    def __call__(self, pixels: Tensor, targets: Tensor) -> Tensor:
        return torch.sigmoid(self.network(2 * unit_interval(pixels) - 1))


def seeded(network: nn.Module, seed: int) -> nn.Module:
    """The network with weights that the seed alone makes; no other thread's random numbers take part."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.3, generator=generator)
    return network


def load_cross(model: object, device: torch.device) -> Cross:
    """The score named `toy`. It has a model of its own, so `model` is not used."""
    return Cross(seeded(CrossNetwork(), 0), device)


def load_taste(model: object, device: torch.device) -> Taste:
    """The score named `toy-taste`."""
    network = nn.Sequential(nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.Tanh(), nn.Flatten(), nn.Linear(WIDTH * 16, 1))
    return Taste(seeded(network, 1), device)


class ToyEncoder(Encoder):
    """A dual encoder of two random layers: a family of its own, named `toy-clip:SEED`.

    All have one text tower, so that one can stand for another's hardened version.
    """

    def __init__(self, name: str, seed: int, device: torch.device) -> None:
        self.name, self.device = name, device
        self.preprocess = Preprocess((SIDE, SIDE), device=device)
        generator = torch.Generator().manual_seed(seed)
        self._picture = torch.randn(3 * SIDE**2, WIDTH, generator=generator).to(device)
        self._words = torch.randn(64, WIDTH, generator=generator.manual_seed(0)).to(device)

    @property
    def parameter_count(self) -> int:
        return self._picture.numel() + self._words.numel()

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.preprocess.description.encode())
        for weight in (self._picture, self._words):
            digest.update(weight.cpu().numpy().tobytes())
        return digest.hexdigest()

    def features(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ self._picture

    def texts(self, texts: list[str]) -> Tensor:
        numbers = [[zlib.crc32(word.encode()) % 64 for word in text.split()] for text in texts]
        return nn.functional.normalize(torch.stack([self._words[own].sum(dim=0) for own in numbers]), dim=-1)


def load_encoder(name: str, device: torch.device) -> ToyEncoder:
    """The encoder `toy-clip:SEED`."""
    seed = name.partition(":")[2]
    if not seed.isdecimal():
        raise EncoderError(f"{name}: write toy-clip:SEED with a whole number")
    return ToyEncoder(name, int(seed), device)
