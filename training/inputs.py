"""What a training run learns from: pictures, paintings, captions, texts with their meanings, and the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import IMAGENET_CLASSNAMES
from tokenizers import Tokenizer
from torch import Tensor

from foclip.data.prompts import ARTWORKS
from training.data import Augmentation, augment_paintings, load_class_names, load_paintings, load_tiny
from training.teacher import cone_targets, embed_with_minilm
from training.texts import Captions, build_bank, build_captions, common_words
from training.tokenizer import train_tokenizer

Config = dict[str, Any]


class Inputs:
    """The data of a run.

    Args:
        config: The run's configuration.
        data: Folder of the data.
        cache: Folder that keeps decoded pictures and embedded texts.

    Attributes:
        captions: Captions of all classes, artworks and broader groups.
        pictures: (N, H, W, 3) uint8.
        labels: (N,), class of each picture.
        paintings: Paintings, uint8.
        painting_labels: Place of each painting's prompt in `ARTWORKS`.
        bank: Texts that the text tower learns from the sentence encoder; none without a table ``text`` in ``config``.
        targets: Unit vectors of the texts in `bank`.
        tokenizer: Learned from common words and class names.
        broader: (classes and artworks, groups), which group each belongs to.
    """

    def __init__(self, config: Config, data: Path, cache: Path) -> None:
        self.config = config
        self.captions: Captions = build_captions(load_class_names(data))
        self.pictures, self.labels = load_tiny(data, "train", cache)
        self.paintings, prompts = load_paintings(data)
        self.painting_labels = torch.tensor([ARTWORKS.index(p) for p in prompts])
        self.bank: list[str] = []
        self.targets = torch.empty(0)
        if "text" in config:
            self._ask_sentence_encoder(config["text"], cache)
        self.tokenizer = self._tokenizer(config["model"]["text_cfg"]["vocab_size"])
        self.broader = torch.zeros(200 + len(ARTWORKS), len(self.captions.broader), dtype=torch.bool)
        for group, members in enumerate(self.captions.members):
            self.broader[list(members), group] = True

    def _ask_sentence_encoder(self, settings: Config, cache: Path) -> None:
        """Fill the bank of texts and the vectors that they should have."""
        bank = build_bank(self.captions, settings["words"], 0)
        texts = sorted({text for pair in bank for text in pair})
        place = {text: i for i, text in enumerate(texts)}
        meanings = embed_with_minilm(texts, cache)
        rows = torch.tensor([[place[text], place[subject]] for text, subject in bank])
        meanings = F.normalize(meanings[rows[:, 0]] + meanings[rows[:, 1]], dim=1)
        self.bank = [text for text, _ in bank]
        self.targets = cone_targets(meanings, self.config["model"]["embed_dim"], settings["cone"], 0)

    def _tokenizer(self, vocab_size: int) -> Tokenizer:
        """The run's tokenizer, learned from common words (by rank) and class names."""
        counted = [w for i, w in enumerate(common_words(32000)) for _ in range(1 + 2000 // (i + 50))]
        names = [n for names in self.captions.classes for n in names] + list(IMAGENET_CLASSNAMES)
        return train_tokenizer(counted + names * 10, vocab_size)

    def batch(
        self, stage: Config, step: int, rank: int, ranks: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augmented pixels (B, 3, size, size) and labels (B,) of one process; artworks follow the 200 classes.

        Args:
            stage: Size of the pictures and share of gray ones.
            step: The training step.
            rank: Number of this process.
            ranks: Number of processes, which share the batch.
            generator: Source of all random choices of this step.
        """
        settings, size = self.config["train"], stage["size"]
        augment = Augmentation(settings["min_area"], stage["gray_share"], settings["sharpen"])
        n_paintings = settings["paintings"] // ranks
        n = settings["batch"] // ranks - n_paintings
        per_epoch = len(self.pictures) // (n * ranks)
        epoch, place = divmod(step, per_epoch)
        order = torch.Generator().manual_seed(self.config["seed"] * 7919 + epoch)
        first = (place * ranks + rank) * n
        rows = torch.randperm(len(self.pictures), generator=order)[first : first + n]
        pixels, labels = augment(self.pictures[rows], size, generator), self.labels[rows]
        if n_paintings:
            chosen = torch.randint(len(self.paintings), (n_paintings,), generator=generator)
            extra = augment_paintings(self.paintings[chosen], size, augment, generator)
            pixels = torch.cat([pixels, extra])
            labels = torch.cat([labels, 200 + self.painting_labels[chosen]])
        return pixels, labels
