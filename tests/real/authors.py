"""Makes `authors.json`: figures of HPSv2 and ImageReward by their authors' own packages, for tiny models.

    python tests/real/authors.py FOLDER

The packages want other versions of what FoCLIP needs, so they are installed into FOLDER, without dependencies, and run
in a process of their own. fairscale, which they import to train, is stood in for.
"""

import importlib
import importlib.machinery
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = (
    "image-reward==1.5",
    "hpsv2==1.2.0",
    "transformers==4.44.2",
    "tokenizers==0.19.1",
    "timm==0.6.13",
    "huggingface_hub==0.24.6",
)
PROMPTS = ("a cat", "a photo of a dog")
SIDE = 64


def pictures() -> list[Any]:
    """Five pictures of several shapes, RGB."""
    from foclip.data.images import read
    from foclip.demo import photos

    boxes = ((100, 20, 260, 180), (60, 40, 250, 200), (200, 100, 360, 330), (150, 80, 310, 240), (0, 0, 90, 41))
    return [read(photos()[place % 4]).crop(box) for place, box in enumerate(boxes)]


def prepare(folder: Path) -> None:
    """What the authors' packages are given: pictures, ImageReward's weights, and those of HPSv2's network."""
    import families
    import open_clip
    import torch

    for place, picture in enumerate(pictures()):
        picture.save(folder / f"{place}.png")
    families.image_reward(folder / "reward")
    model = families.drawn(open_clip.CLIP(64, families.HPS_VISION, families.HPS_TEXT))
    torch.save((model.state_dict(), open_clip.get_tokenizer("ViT-H-14")(list(PROMPTS))), folder / "hps.pt")


def measure(folder: Path) -> dict[str, list[list[float]]]:
    """Figures by the authors' packages: a row for each picture, a figure for each prompt."""
    checkpointing = "fairscale.nn.checkpoint.checkpoint_activations"
    for name in ("fairscale", "fairscale.nn", "fairscale.nn.checkpoint", checkpointing):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(sys.modules[checkpointing])["checkpoint_wrapper"] = None
    own = ("ImageReward", "ImageReward.models", "ImageReward.models.BLIP", "hpsv2", "hpsv2.src", "hpsv2.src.open_clip")
    for name in own:  # what else these import is for training, or a file that is not in the package
        sys.modules[name] = module = types.ModuleType(name)
        module.__path__ = [str(folder / "packages" / name.replace(".", "/"))]
    files = [str(folder / f"{place}.png") for place in range(5)]
    return {"hpsv2": hps(folder, files), "imagereward": reward(folder / "reward", files)}


def hps(folder: Path, files: list[str]) -> list[list[float]]:
    import families
    import torch
    from PIL import Image

    network, transforms = (importlib.import_module(f"hpsv2.src.open_clip.{name}") for name in ("model", "transform"))
    model = network.CLIP(64, families.HPS_VISION, families.HPS_TEXT, output_dict=True)
    state, tokens = torch.load(folder / "hps.pt", weights_only=True)
    model.load_state_dict(state)
    transform = transforms.image_transform(SIDE, is_train=False, resize_longest_max=True)
    seen = torch.stack([transform(Image.open(file)) for file in files])
    with torch.no_grad():
        found = model.eval()(seen, tokens)
    figures: list[list[float]] = (found["image_features"] @ found["text_features"].T).tolist()
    return figures


def reward(folder: Path, files: list[str]) -> list[list[float]]:
    import torch
    from torch import nn
    from transformers import BertTokenizer

    places = ("ImageReward", "models.BLIP.med", "models.BLIP.vit")
    authors, med, vit = (importlib.import_module(f"ImageReward.{place}") for place in places)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    sizes = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 2, "intermediate_size": 96}
    config = med.BertConfig(
        **sizes, vocab_size=len(tokenizer), max_position_embeddings=40, add_cross_attention=True, encoder_width=64
    )
    model = authors.ImageReward.__new__(authors.ImageReward)
    nn.Module.__init__(model)
    model.device, model.preprocess = "cpu", authors._transform(32)
    model.mean, model.std = 0.16717362830052426, 1.0333394966054072
    model.mlp, model.blip = authors.MLP(64), nn.Module()
    model.blip.tokenizer = tokenizer
    model.blip.visual_encoder = vit.VisionTransformer(32, 8, embed_dim=64, depth=2, num_heads=1, mlp_ratio=1.5)
    model.blip.text_encoder = med.BertModel(config, add_pooling_layer=False)
    missing, _ = model.load_state_dict(torch.load(folder / "ImageReward.pt", weights_only=True), strict=False)
    assert not missing, missing
    model.eval()
    with torch.no_grad():
        return [[float(model.score(prompt, file)) for prompt in PROMPTS] for file in files]


def main() -> None:
    """Install, prepare, measure elsewhere, and write the figures."""
    folder = Path(sys.argv[1]).resolve()
    if sys.argv[2:]:
        (folder / "found.json").write_text(json.dumps(measure(folder)))
        return
    packages = folder / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
    subprocess.run([*pip, *PACKAGES], check=True)
    sys.path.insert(0, str(HERE.parent))
    prepare(folder)
    paths = {"PYTHONPATH": os.pathsep.join([str(packages), str(HERE.parent)])}
    subprocess.run([sys.executable, __file__, str(folder), "measure"], check=True, env=os.environ | paths)
    found = json.loads((folder / "found.json").read_text())
    told = {"packages": list(PACKAGES), "prompts": list(PROMPTS), **found}
    (HERE / "authors.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
