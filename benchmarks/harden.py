"""`foclip harden` on towers of other kinds, killed and resumed: ``python -m benchmarks.harden``.

For each architecture, with random weights and pictures made here: one undisturbed run; one that is
killed (SIGKILL) as soon as it has written a checkpoint after a step, and called again; their weights
must be the same bytes. Then one of two processes under torchrun, whose gradients are
shared. Every written folder must load with open_clip alone. The exit code is 1 if any does not.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

ARCHITECTURES = ("mini", "ViT-B-32", "RN50")
ALONE = (
    "import sys, torch, open_clip; name = 'local-dir:' + sys.argv[1];"
    "model, _, preprocess = open_clip.create_model_and_transforms(name);"
    "from PIL import Image; picture = preprocess(Image.new('RGB', (80, 60)))[None];"
    "assert model.eval().encode_image(picture).isfinite().all();"
    "assert model.encode_text(open_clip.get_tokenizer(name)(['a dog'])).isfinite().all();"
    "assert not any(m.split('.')[0] == 'foclip' for m in sys.modules)"
)


def make_pictures(folder: Path, count: int) -> None:
    """Pictures of coarse random colours."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        cells = rng.integers(256, size=(6, 8, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")


def digest(out: Path) -> str:
    """SHA-256 of a run's weights."""
    return hashlib.sha256((out / "open_clip_model.safetensors").read_bytes()).hexdigest()


def kill_after_a_step(command: list[str], checkpoint: Path) -> bool:
    """Start a run and kill it once it has rewritten its first checkpoint; whether it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = None
    while process.poll() is None:
        if checkpoint.exists():
            written = checkpoint.stat().st_mtime_ns
            first = first or written
            if written != first:
                process.send_signal(signal.SIGKILL)
                break
        time.sleep(0.005)
    return process.wait() == -signal.SIGKILL


def check(architecture: str, folder: Path, steps: int) -> dict[str, str]:
    """One architecture's row."""
    model = architecture
    if architecture != "mini":
        torch.manual_seed(0)
        path = folder / f"{architecture}.pt"
        torch.save(open_clip.create_model(architecture).state_dict(), path)
        model = f"{architecture}/{path}"
    harden = ["harden", "--model", model, "--images", str(folder / "pictures"), "--steps", str(steps)]
    harden += ["--batch-size", "4", "--accumulate", "2", "--checkpointing", "--precision", "float32"]
    harden += ["--keep", "-1", "--attack-steps", "1", "--checkpoint-every", "0", "--out"]
    alone = [sys.executable, "-m", "foclip", *harden]
    whole, killed, shared = (folder / f"{architecture}-{kind}" for kind in ("whole", "killed", "shared"))
    started = time.monotonic()
    subprocess.run([*alone, str(whole)], check=True, capture_output=True)
    seconds = time.monotonic() - started
    stopped = kill_after_a_step([*alone, str(killed)], killed / ".unfinished" / "checkpoint.pt")
    subprocess.run([*alone, str(killed)], check=True, capture_output=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "foclip"]
    subprocess.run([*torchrun, *harden, str(shared)], check=True, capture_output=True)
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    loads = all(
        subprocess.run([sys.executable, "-c", ALONE, str(out)], env=offline, check=False).returncode == 0
        for out in (whole, shared)
    )
    return {
        "seconds": f"{seconds:.0f}",
        "killed": "yes" if stopped else "NO",
        "same bytes": "yes" if digest(whole) == digest(killed) else "NO",
        "loads alone": "yes" if loads else "NO",
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--steps", type=int, default=4)
    choice = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        make_pictures(Path(name) / "pictures", 40)
        for architecture in choice.architectures:
            rows[architecture] = check(architecture, Path(name), choice.steps)
            cells = ", ".join(f"{column}: {value}" for column, value in rows[architecture].items())
            print(f"{architecture}: {cells}", flush=True)
    sys.exit(int(any("NO" in row.values() for row in rows.values())))


if __name__ == "__main__":
    main()
