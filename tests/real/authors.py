"""Makes `authors.json`: figures of scores by their authors' own packages, for tiny models.

    python tests/real/authors.py FOLDER

The packages want other versions of what FoCLIP needs, so they are installed into FOLDER, without dependencies, and run
in a process of their own. What they import to train, or to download, is stood in for. PickScore's authors call
transformers; BLIP's have two codes, which begin a text with another token ("[CLS]" and "[ENC]").
"""

import importlib
import importlib.machinery
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = (
    "image-reward==1.5",
    "hpsv2==1.2.0",
    "salesforce-lavis==1.0.2",
    "transformers==4.44.2",
    "tokenizers==0.19.1",
    "timm==0.6.13",
    "huggingface_hub==0.24.6",
)
PROMPTS = ("a cat", "a photo of a dog")
SIDE = 64
#: What is imported and not used, by module.
STOOD_IN = {
    "fairscale.nn.checkpoint.checkpoint_activations": ("checkpoint_wrapper",),
    "omegaconf": ("OmegaConf",),
    "iopath.common.download": ("download",),
    "iopath.common.file_io": ("file_lock", "g_pathmgr"),
}
#: Parts of CLIP's configuration, and what in them tells sizes; the rest has other names in other versions.
PARTS = ("text_config", "vision_config")
SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size"),
    *("vocab_size", "max_position_embeddings", "eos_token_id", "bos_token_id"),
)
#: Names in BLIP's network in transformers, and what its authors call the same.
NAMES = {
    r"^vision_model\.embeddings\.class_embedding": "visual_encoder.cls_token",
    r"^vision_model\.embeddings\.position_embedding": "visual_encoder.pos_embed",
    r"^vision_model\.embeddings\.patch_embedding": "visual_encoder.patch_embed.proj",
    r"^vision_model\.post_layernorm": "visual_encoder.norm",
    r"^vision_model\.encoder\.layers": "visual_encoder.blocks",
    r"\.self_attn\.projection\.": ".attn.proj.",
    r"\.self_attn\.": ".attn.",
    r"\.layer_norm(\d)": r".norm\1",
}


def pictures() -> list[Any]:
    """Five pictures of several shapes, RGB."""
    from foclip.data.images import read
    from foclip.demo import photos

    boxes = ((100, 20, 260, 180), (60, 40, 250, 200), (200, 100, 360, 330), (150, 80, 310, 240), (0, 0, 90, 41))
    return [read(photos()[place % 4]).crop(box) for place, box in enumerate(boxes)]


def prepare(folder: Path) -> None:
    """What the authors' packages are given: pictures, weights, and HPSv2's and PickScore's prompts as tokens."""
    import families
    import open_clip
    import torch

    for place, picture in enumerate(pictures()):
        picture.save(folder / f"{place}.png")
    families.image_reward(folder / "reward")
    model = families.drawn(open_clip.CLIP(64, families.HPS_VISION, families.HPS_TEXT))
    torch.save((model.state_dict(), open_clip.get_tokenizer("ViT-H-14")(list(PROMPTS))), folder / "hps.pt")
    pick, _, tokenizer = families.pickscore()
    tokens = dict(tokenizer(list(PROMPTS), padding=True, truncation=True, max_length=12, return_tensors="pt"))
    torch.save((pick.state_dict(), pick.config.to_dict(), tokens), folder / "pick.pt")
    torch.save(families.blip_matching()[0].state_dict(), folder / "blip.pt")


def measure(folder: Path) -> dict[str, list[list[float]]]:
    """Figures by the authors' packages: a row for each picture, a figure for each prompt."""
    for full, names in STOOD_IN.items():
        parts = full.split(".")
        for name in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
            sys.modules.setdefault(name, types.ModuleType(name)).__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(sys.modules[full]).update(dict.fromkeys(names))
    own = ("ImageReward", "ImageReward.models", "ImageReward.models.BLIP", "hpsv2", "hpsv2.src", "hpsv2.src.open_clip")
    for name in (*own, "lavis", "lavis.models", "lavis.models.blip_models"):
        # What else these import is for training, or a file that is not in the package.
        sys.modules[name] = module = types.ModuleType(name)
        module.__path__ = [str(folder / "packages" / name.replace(".", "/"))]
    files = [str(folder / f"{place}.png") for place in range(5)]
    found = {"hpsv2": hps(folder, files), "imagereward": reward(folder / "reward", files)}
    found |= {"pickscore": pick(folder, files)}
    return found | {f"blip-itm {first}": blip(folder, files, first) for first in ("[CLS]", "[ENC]")}


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


def pick(folder: Path, files: list[str]) -> list[list[float]]:
    """As PickScore's README has it."""
    import torch
    import transformers
    from PIL import Image

    state, config, tokens = torch.load(folder / "pick.pt", weights_only=True)
    sizes = {part: {key: config[part][key] for key in SIZES if key in config[part]} for part in PARTS}
    model = transformers.CLIPModel(transformers.CLIPConfig(**sizes, projection_dim=config["projection_dim"]))
    model.load_state_dict(state)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    seen = transformers.CLIPImageProcessor(**size)(images=[Image.open(file) for file in files], return_tensors="pt")
    with torch.no_grad():
        images, texts = model.eval().get_image_features(**seen), model.get_text_features(**tokens)
        images, texts = (each / torch.norm(each, dim=-1, keepdim=True) for each in (images, texts))
        figures: list[list[float]] = (model.logit_scale.exp() * (texts @ images.T)).T.tolist()
    return figures


def blip(folder: Path, files: list[str], first: str) -> list[list[float]]:
    """By LAVIS, which begins a text with [ENC]; BLIP's own repository leaves the [CLS] there."""
    import torch
    from PIL import Image
    from torchvision import transforms
    from transformers import BertTokenizer

    base = importlib.import_module("lavis.models.base_model")
    vars(sys.modules["lavis.models"])["BaseModel"] = base.BaseModel
    matching, med, vit = (
        importlib.import_module(f"lavis.models.{place}")
        for place in ("blip_models.blip_image_text_matching", "med", "vit")
    )
    tokenizer = BertTokenizer(str(folder / "reward" / "vocab.txt"))
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    tokenizer.enc_token_id = tokenizer.convert_tokens_to_ids(first)
    matching.BlipITM.init_tokenizer = lambda self: tokenizer
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    config = med.BertConfig(
        **sizes,
        vocab_size=len(tokenizer),
        max_position_embeddings=40,
        add_cross_attention=True,
        encoder_width=16,
        add_type_embeddings=False,
    )
    image = vit.VisionTransformerEncoder(32, 8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2)
    image.vision_width = 16
    model = matching.BlipITM(image, med.XBertEncoder(config, add_pooling_layer=False), embed_dim=16)
    renamed = {}
    for name, value in torch.load(folder / "blip.pt", weights_only=True).items():
        for old, new in NAMES.items():
            name = re.sub(old, new, name)
        renamed[name] = value
    missing, _ = model.load_state_dict(renamed, strict=False)
    assert not [name for name in missing if not name.endswith("position_ids")], missing
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    resize = transforms.Resize((32, 32), transforms.InterpolationMode.BICUBIC)
    transform = transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(mean, std)])
    seen = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    with torch.no_grad():
        asked = ({"image": seen, "text_input": [prompt] * len(files)} for prompt in PROMPTS)
        found = torch.stack([model.eval()(each).softmax(dim=-1)[:, 1] for each in asked], dim=1)
    figures: list[list[float]] = found.tolist()
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
