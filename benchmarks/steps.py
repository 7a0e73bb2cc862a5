"""What a step of the attack costs: against the bare tower, and against what others offer for the same loss.

The floor is the tower as open_clip loads it, forward and backward with respect to a ready input in float32, its
parameters frozen. Beside our step stand CLIPMasterPrints' loop as published (arXiv 2307.03798: nothing is frozen, one
picture at a time, Adam on pixels), and the L2 attacks of torchattacks and of the Adversarial Robustness Toolbox (ART),
which get the objective as the difference of two logits, and so the same direction of the gradient. Those two are
installed into a folder of the benchmark's own, without the old packages that they pin. A quick step is ours with
`--precision auto`: in bfloat16, where that is measured to be faster; a compiled one is that with `--compile` besides
(at batches of 1, 4 and 12 only, since it compiles for minutes).
"""

import copy
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.attack_step import opened, resize_by_hand, untrained
from benchmarks.timing import Section, Spread, now, paired, seconds
from foclip.attacks import AttackPlan, AttackTask, FoCLIP, fastest_precision, make_plan, objective, run
from foclip.data.prompts import ARTWORKS
from foclip.models import OpenClipEncoder
from foclip.models.batching import LARGE_MODEL
from foclip.models.scores import CLIPScore

#: Model, pictures (height, width; None for the tower's own size), batch.
CASES: tuple[tuple[str, tuple[int, int] | None, int], ...] = (
    ("mini", None, 1),
    ("mini", None, 4),
    ("mini", None, 12),
    ("mini", None, 32),
    ("mini", (256, 384), 1),
    ("mini", (768, 1024), 1),
    ("mini", (1536, 2048), 1),
    ("mini", (3000, 4000), 1),
    ("mini-vit", None, 1),
    ("mini-vit", None, 4),
    ("mini-vit", None, 12),
    ("mini-vit", None, 32),
    ("mini-vit", (3000, 4000), 1),
    ("ViT-B-32", None, 1),
    ("ViT-B-32", (3000, 4000), 1),
    ("RN50", None, 1),
    ("ViT-L-14-336", None, 1),
)
#: The batches whose steps are compiled too.
COMPILED = (1, 4, 12)
RIVALS = ("torchattacks==3.5.1", "adversarial-robustness-toolbox==1.20.1", "six")
BUDGET = 10 ** (-35 / 20)


def encoder_of(name: str, device: str = "cpu") -> OpenClipEncoder:
    """An embedded encoder, or an architecture with random weights."""
    return opened(name, device) if name.startswith("mini") else untrained(name, device)


class Logits(nn.Module):
    """Pixels to two logits whose difference is our objective: what classifiers' attacks ask for."""

    def __init__(self, encoder: OpenClipEncoder, model: Any) -> None:
        super().__init__()
        self.encoder, self.model = encoder, model
        self.texts = encoder.encode_texts(ARTWORKS)

    def forward(self, pixels: Tensor) -> Tensor:
        features = F.normalize(self.model.encode_image(resize_by_hand(self.encoder, pixels)), dim=-1)
        scores = features @ self.texts.T
        loss = -scores.mean(dim=1) + scores.var(dim=1, correction=0)
        return torch.stack([loss, torch.zeros_like(loss)], dim=1)


def rivals(folder: Path) -> bool:
    """Install torchattacks and ART into a folder, and find them from now on; False, said aloud, if that fails."""
    if not (folder / "art").is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *RIVALS]
        if subprocess.run(command, check=False).returncode:
            print("torchattacks and ART could not be installed, so they are left out", file=sys.stderr)
            return False
    sys.path.append(str(folder))
    return True


def others(encoder: OpenClipEncoder, pixels: Tensor, steps: int, installed: bool) -> dict[str, Callable[[], object]]:
    """The loops of others, `steps` steps each."""
    model = copy.deepcopy(encoder.model).to(memory_format=torch.contiguous_format).requires_grad_(True)
    logits, labels = Logits(encoder, model), torch.ones(len(pixels), dtype=torch.long, device=pixels.device)
    radius = BUDGET * pixels[0].numel() ** 0.5

    def clipmasterprints() -> None:
        for picture in pixels[:, None]:
            leaf = picture.clone().requires_grad_(True)
            optimizer = torch.optim.Adam([leaf], lr=0.1 * BUDGET)
            for _ in range(steps):
                features = F.normalize(model.encode_image(resize_by_hand(encoder, leaf)), dim=-1)
                optimizer.zero_grad()
                torch.autograd.backward((features @ logits.texts.T).min().neg())
                optimizer.step()
        model.zero_grad()

    found: dict[str, Callable[[], object]] = {"CLIPMasterPrints": clipmasterprints}
    if installed:
        import torchattacks  # type: ignore[import-not-found]
        from art.attacks.evasion import ProjectedGradientDescentPyTorch  # type: ignore[import-not-found]
        from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found]

        theirs = torchattacks.PGDL2(logits, eps=radius, alpha=radius / 5, steps=steps, random_start=False)
        classifier = PyTorchClassifier(
            logits,
            nn.CrossEntropyLoss(),
            tuple(pixels.shape[1:]),
            2,
            clip_values=(0, 1),
            device_type=pixels.device.type,
        )
        pgd = ProjectedGradientDescentPyTorch(
            classifier, 2, radius, radius / 5, max_iter=steps, targeted=True, batch_size=len(pixels), verbose=False
        )
        wanted = F.one_hot(labels, 2).cpu().numpy()
        found["torchattacks"] = lambda: theirs(pixels, 1 - labels)
        found["ART"] = lambda: pgd.generate(pixels.cpu().numpy(), wanted)
    return found


def table(models: list[str], repeats: int, folder: Path, most: int, device: str) -> Section:
    """One row per model, picture and batch."""
    section = Section("One step of the attack")
    installed = rivals(folder)
    loaded: tuple[str, OpenClipEncoder | None] = "", None
    for name, size, batch in CASES:
        height, width = size or (0, 0)
        if name not in models or height * width > most:
            continue
        if loaded[0] != name:
            loaded = name, encoder_of(name, device)
        encoder = loaded[1]
        assert encoder is not None
        height, width = size or encoder.image_size
        generator = torch.Generator().manual_seed(0)
        small = torch.rand((batch, 3, height // 8 + 1, width // 8 + 1), generator=generator)
        pixels = F.interpolate(small, size=(height, width), mode="bilinear").mul(255).to(torch.uint8).to(device)
        # A large picture is painted at the last steps, which the median step must not be one of.
        steps = 2 if encoder.parameter_count > LARGE_MODEL and size is None else 12
        attack = make_plan(FoCLIP, objective=objective(), steps=steps, budgets="psnr:35", batch_size=batch)
        jobs, score = [AttackTask(picture.cpu(), ARTWORKS) for picture in pixels], CLIPScore(encoder)
        tower = copy.deepcopy(encoder.model).to(memory_format=torch.contiguous_format)
        inputs = torch.cat(
            [encoder.preprocess.normalize(encoder.preprocess.pixels(picture[None] / 255)) for picture in pixels]
        ).requires_grad_(True)
        whole: list[float] = []

        def floor(tower: Any = tower, inputs: Tensor = inputs, steps: int = steps) -> float:
            each = [
                seconds(lambda: torch.autograd.grad(tower.encode_image(inputs).sum(), inputs)) for _ in range(steps)
            ]
            return Spread.of(each).median

        def ours(
            attack: AttackPlan = attack,
            jobs: list[AttackTask] = jobs,
            score: CLIPScore = score,
            whole: list[float] = whole,
        ) -> float:
            marks = [now()]
            list(run(jobs, score, attack, on_step=lambda _: marks.append(now()), workers=1))
            whole.append(now() - marks[0])
            return Spread.of([after - before for before, after in pairwise(marks[1:])]).median

        best, _ = fastest_precision(attack.execution, score)
        quick = attack.replace(precision=best)
        calls: dict[str, Callable[[], float]] = {"floor": floor, "step": ours}
        calls["quick step"] = lambda ours=ours, quick=quick: ours(quick, whole=[])  # type: ignore[misc]
        if batch in COMPILED:
            torch.compiler.reset()  # one process compiles a function for so many shapes, and then no more
            compiled = attack.replace(compiled=True)
            compiled = compiled.replace(precision=fastest_precision(compiled.execution, score)[0])
            calls["compiled step"] = lambda ours=ours, made=compiled: ours(made, whole=[])  # type: ignore[misc]
        own = len(calls)
        if size is None:
            for rival, loop in others(encoder, pixels / 255, steps, installed).items():
                calls[rival] = lambda loop=loop, steps=steps: seconds(loop) / steps  # type: ignore[misc]
        spent, ratios = paired(calls, repeats)
        section.add(
            model=name,
            picture=f"{height}×{width}",
            batch=batch,
            **{"floor / ms": spent["floor"].times(1e3), "step / floor": ratios["step"]},
            **{"besides, per picture / s": max(0.0, Spread.of(whole).median - steps * spent["step"].median) / batch},
            **{f"{name} / floor": ratios[name] for name in list(calls)[2:own]},
            **{
                f"{rival} / {name}": spent[rival].median / spent[name].median
                for name in list(calls)[1:own]
                for rival in list(calls)[own:]
            },
        )
    return section
