"""Train an embedded encoder: ``python -m training.train --config C --data D --out O``.

Two parts.  First the text tower learns a sentence encoder's meanings (``teacher.py``) on a bank of texts; without a
table ``[text]`` it learns from captions alone.  Then both towers learn from pictures: every step sees one caption of
every class, artwork and broader group, so each picture has several positives among some 320 texts.  With a ``[distil]``
table the picture tower also imitates a finished encoder on the same pictures and keeps its texts.  ``start = "FOLDER"``
begins with an exported model's weights: another round, its rate falling to 0 again.

Step n draws everything from a generator seeded with (seed, n): a run resumed from its checkpoint repeats an
uninterrupted one.  On a busy CPU two processes of one thread each are much faster than one process of two threads,
whose every operation waits for the slower thread.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip import CLIP
from safetensors.torch import load_file
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn

from training import loss, optim
from training.data import sha256
from training.export import export_model
from training.inputs import Config, Inputs
from training.tokenizer import tokenize
from training.towers import Teacher, encode_pixels, encode_texts, text_parts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def say(message: str) -> None:
    """One line of progress on stderr."""
    print(message, file=sys.stderr, flush=True)


class Run:
    """One training run: its data, model, optimisers and position."""

    def __init__(self, config: Config, data: Path, out: Path, device: str, rank: int = 0, ranks: int = 1) -> None:
        self.config, self.data, self.out, self.device = config, data, out, torch.device(device)
        self.rank, self.ranks = rank, ranks
        out.mkdir(parents=True, exist_ok=True)
        cache = Path(os.environ.get("FOCLIP_TRAINING_CACHE", out / "cache"))
        torch.manual_seed(config["seed"])
        self.inputs = Inputs(config, data, cache)
        model_cfg = config["model"]
        self.model = CLIP(**copy.deepcopy(model_cfg)).to(self.device)
        self.model.visual.to(memory_format=torch.channels_last)
        with torch.no_grad():
            self.model.logit_scale.fill_(torch.tensor(config["train"].get("scale", 20.0)).log().item())
        self.step = 0
        self.seconds = 0.0
        self.texts = torch.empty(0)
        if rank == 0:
            self.record()

    def record(self) -> None:
        """Write what is needed to repeat the run."""
        files = sorted((self.data / "tiny-imagenet").glob("train-*.parquet"))
        files += sorted((self.data / "paintings").iterdir())
        facts = {
            "config": self.config,
            "data": {str(f.relative_to(self.data)): sha256(f) for f in files},
            "versions": {p: version(p) for p in ("torch", "open_clip_torch", "timm", "tokenizers", "numpy")},
            "python": platform.python_version(),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "processes": self.ranks,
        }
        (self.out / "run.json").write_text(json.dumps(facts, indent=2) + "\n")

    def autocast(self) -> torch.autocast:
        """bfloat16 products, where the configuration asks for them."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config["bf16"])

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(T, D) unit vectors of texts, with gradients where they are enabled."""
        tokens = tokenize(self.inputs.tokenizer, texts, self.model.context_length).to(self.device)
        with self.autocast():
            return encode_texts(self.model, tokens)

    def pretrain_text(self) -> None:
        """Distil the sentence encoder into the text tower; the result is kept in ``out``."""
        settings, kept = self.config["text"], self.out / "text.pt"
        parts = text_parts(self.model)
        if kept.exists():
            parts.load_state_dict(torch.load(kept, weights_only=True))
            return
        optimizers = optim.build_optimizers([(parts, 1.0)], settings["lr"], 0.01)
        steps, batch = settings["steps"], settings["batch"]
        generator = torch.Generator().manual_seed(self.config["seed"])
        lengths = [len(e.ids) for e in self.inputs.tokenizer.encode_batch(self.inputs.bank)]
        # Texts of one length are shuffled by a fixed hash of their place.
        by_length = torch.tensor(sorted(range(len(lengths)), key=lambda i: (lengths[i], i * 2654435761 % 2**32)))
        for step in range(steps):
            optim.set_rate(optimizers, min(1, (step + 1) / 50) * (1 - step / steps))
            first = int(torch.randint(len(self.inputs.bank) - batch, (1,), generator=generator))
            rows = by_length[first : first + batch]  # texts of one length: no work on padding
            found = self.encode([self.inputs.bank[i] for i in rows.tolist()])
            value = loss.distance(found, self.inputs.targets[rows].to(self.device))
            self.update(value, optimizers)
            if step % 100 == 0:
                say(f"text {step}/{steps} distance {value.item():.4f}")
        if self.rank == 0:
            torch.save(parts.state_dict(), kept)

    def update(self, value: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """One optimisation step."""
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        self.average_gradients()
        for optimizer in optimizers:
            optimizer.step()

    def average_gradients(self) -> None:
        """Replace every gradient by its mean over the processes of the run."""
        if self.ranks == 1:
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        distributed.all_reduce(flat)
        flat /= self.ranks
        for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def plan(self) -> list[tuple[Config, float]]:
        """(stage, progress in [0, 1]) of every step; progress counts pixels computed."""
        batch = self.config["train"]["batch"]
        stages = [stage for stage in self.config["stages"] for _ in range(stage["pictures"] // batch)]
        total = sum(stage["size"] ** 2 for stage in stages)
        done, steps = 0, []
        for stage in stages:
            steps.append((stage, done / total))
            done += stage["size"] ** 2
        return steps

    def pair_loss(self, logits: Tensor, positives: Tensor) -> Tensor:
        """Contrastive loss of scaled cosines (B, T): that of pairs, where the model has a bias for it, or CLIP's."""
        bias = self.model.logit_bias
        return loss.multi_positive(logits, positives) if bias is None else loss.sigmoid(logits + bias, positives)

    def picture_loss(self, vectors: Tensor, texts: Tensor, labels: Tensor) -> tuple[Tensor, str]:
        """Contrastive losses of pictures (B, D) against this step's captions (T, D)."""
        settings = self.config["train"]
        scale = self.model.logit_scale.exp().clamp(max=settings["max_scale"])
        similarity = vectors @ texts.T
        n_names, n_broader = len(self.inputs.broader), self.inputs.broader.shape[1]
        other = similarity[:, n_names + n_broader :]
        names = torch.cat([similarity[:, :n_names], other], 1)
        positives = loss.class_positives(labels, names.shape[1]).to(self.device)
        pairs = self.pair_loss(scale * names, positives)
        groups = torch.cat([similarity[:, n_names : n_names + n_broader], other], 1)
        belongs = F.pad(self.inputs.broader[labels], (0, other.shape[1])).to(self.device)
        value = pairs + settings["broader_weight"] * self.pair_loss(scale * groups, belongs)
        value = value + settings["floor_weight"] * loss.floor_penalty(names, positives, settings["floor"])
        with torch.no_grad():
            matched = names[positives].mean().item()
            unmatched = names[~positives].mean().item()
            right = (names.argmax(1) == labels.to(self.device)).float().mean().item()
        note = f"right {right:.3f} matched {matched:.3f} unmatched {unmatched:.3f} scale {scale.item():.1f}"
        return value, note

    def captions_loss(self, generator: torch.Generator) -> Tensor:
        """Draw new captions into ``self.texts`` (with gradients); how far texts left the teacher, if there is one."""
        settings = self.config["train"]
        drawn = self.inputs.captions.draw(
            settings["others"], random.Random(self.config["seed"] * 1_000_003 + self.step)
        )
        self.texts = self.encode(drawn)
        if not self.inputs.bank:
            return torch.zeros((), device=self.device)
        rows = torch.randint(len(self.inputs.bank), (settings["texts"],), generator=generator)
        found = self.encode([self.inputs.bank[i] for i in rows.tolist()])
        return loss.distance(found, self.inputs.targets[rows].to(self.device))

    def train(self, stop_after: int | None = None) -> None:
        """Run to the end of the plan (or ``stop_after`` steps), checkpointing on the way."""
        settings, plan = self.config["train"], self.plan()
        teacher = Teacher(self) if "distil" in self.config else None
        if "start" in self.config:
            self.model.load_state_dict(load_file(Path(self.config["start"]) / "open_clip_model.safetensors"))
        elif teacher is None and "text" in self.config:
            self.pretrain_text()
        self.model.logit_scale.requires_grad_(True)
        groups = [(text_parts(self.model), settings["text_rate"]), (self.model.visual, 1.0)]
        optimizers = optim.build_optimizers(groups, settings["lr"], settings["weight_decay"])
        scalars = [p for p in (self.model.logit_scale, self.model.logit_bias) if p is not None]
        scale_group = {"params": scalars, "peak": settings["lr"]}
        optimizers[1].add_param_group(scale_group)
        self.resume(optimizers)
        self.model.train()
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        end = min(len(plan), stop_after or len(plan))
        while self.step < end:
            stage, progress = plan[self.step]
            if self.step % settings["text_every"] == 0 and time.monotonic() - saved > settings["checkpoint_seconds"]:
                self.seconds = time.monotonic() - started
                if self.rank == 0:
                    self.save(optimizers)
                saved = time.monotonic()
            optim.set_rate(optimizers, min(1, (progress + 1e-3) / settings["warmup"]) * (1 - progress))
            seed = (self.config["seed"] * 1_000_003 + self.step) * self.ranks + self.rank
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            value = torch.zeros((), device=self.device)
            pixels, labels = self.inputs.batch(stage, self.step, self.rank, self.ranks, generator)
            pixels = pixels.to(self.device)
            if self.step % settings["text_every"] == 0:
                value = settings.get("text_distance", 0.0) * self.captions_loss(generator)
            with self.autocast():
                vectors = encode_pixels(self.model, pixels)
            picture_value, note = self.picture_loss(vectors, self.texts, labels)
            value = value + picture_value
            if teacher is not None:
                value = value + teacher.loss(pixels, vectors, self.texts)
            self.update(value, optimizers)
            self.texts = self.texts.detach()
            self.step += 1
            if self.rank == 0 and (self.step % 25 == 0 or self.step == end):
                spent = time.monotonic() - started
                say(f"{self.step}/{len(plan)} {spent:.0f}s size {stage['size']} loss {value.item():.3f} {note}")
        self.seconds = time.monotonic() - started
        if self.rank == 0:
            self.save(optimizers)

    def save(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Write the checkpoint (an interrupted write leaves the previous one) and export the model."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "texts": self.texts,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        }
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")
        export_model(self.model, self.inputs.tokenizer, self.config["model"], self.out / "model")

    def resume(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Continue from the checkpoint, if there is one."""
        kept = self.out / "checkpoint.pt"
        if not kept.exists():
            return
        state = torch.load(kept, weights_only=True, map_location=self.device)
        self.step, self.seconds, self.texts = state["step"], state["seconds"], state["texts"]
        self.model.load_state_dict(state["model"])
        for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        say(f"resumed at step {self.step}")


def work(rank: int, choice: argparse.Namespace, config: Config) -> None:
    """One process of a run."""
    if choice.threads:
        torch.set_num_threads(choice.threads)
    if choice.processes > 1:
        choice.out.mkdir(parents=True, exist_ok=True)
        meeting = choice.out / "meeting"
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting.resolve()}-{os.getppid()}", rank=rank, world_size=choice.processes
        )
    Run(config, choice.data, choice.out, choice.device, rank, choice.processes).train()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads per process; 0: as torch decides")
    parser.add_argument("--processes", type=int, default=1, help="share every batch among so many processes")
    choice = parser.parse_args()
    config = tomllib.loads(choice.config.read_text())
    if choice.processes == 1:
        work(0, choice, config)
    else:
        spawn(work, (choice, config), choice.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
