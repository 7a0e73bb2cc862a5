"""open_clip as the command line imports it: what it leaves out is there as soon as it is needed.

Each test runs in a process of its own, since here everything is imported already.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertConfig

import foclip
from foclip.models import embedded

pytestmark = pytest.mark.slow

#: A command, and then the heavy packages that it has loaded, in the last line of stderr.
COMMAND = """
import sys
from foclip import cli
try:
    cli.main()
finally:
    print(*(name for name in ({names}) if name in sys.modules), file=sys.stderr)
"""
HEAVY = (
    "torch._dynamo",
    "torch._inductor",
    "transformers",
    "torchmetrics",
    "sklearn",
    "scipy",
    "skimage",
    "matplotlib",
    "pandas",
    "pyarrow",
    "jinja2",
    "flip_evaluator",
)


def python(code: str, *arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(("command", "options"), [("score", ("--prompts", "artworks")), ("detect", ())])
def test_reading_a_picture_loads_nothing_that_it_does_not_use(
    photo_files: list[Path], command: str, options: tuple[str, ...]
) -> None:
    done = python(COMMAND.format(names=HEAVY), command, photo_files[0], *options)
    assert done.stderr.splitlines()[-1] == ""


def test_what_is_left_out_works_once_it_is_needed() -> None:
    python("""
import sys, torch
from foclip.models import light

disable = torch.compiler.disable
light.import_open_clip()
assert torch.compiler.disable is disable
assert not {"torch._dynamo", "torch._dynamo.utils", "transformers"} & sys.modules.keys()

naflexvit, roi_align = (sys.modules[name] for name in ("timm.models.naflexvit", "torchvision.ops.roi_align"))
assert roi_align.is_compile_supported("cpu") and not roi_align.is_compile_supported("meta")
from torch._dynamo.utils import is_compile_supported
assert roi_align.is_compile_supported is not is_compile_supported  # so the above was a stand-in

graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward

@naflexvit.disable_compiler
def exempt(x):
    assert not torch.compiler.is_compiling()
    return x * 2

compiled = torch.compile(lambda x: exempt(x + 1) + 1, backend=backend)
for _ in range(2):
    assert compiled(torch.ones(2)).tolist() == [5, 5]
assert len(graphs) == 2  # before and after the exempt function
assert naflexvit.disable_compiler(recursive=False)(exempt)(torch.ones(2)).tolist() == [2, 2]
""")


def test_another_version_that_takes_more_of_the_compiler_gets_it() -> None:
    python("""
import sys
from foclip.models import light

with light._compiler_later():
    stand_in = sys.modules["torch._dynamo.utils"]
    from torch._dynamo.utils import counters
    assert sys.modules["torch._dynamo.utils"] is not stand_in
    assert sys.modules["torch._dynamo.utils"].counters is counters
import torch
assert torch._dynamo.utils.counters is counters
with light._compiler_later():  # loaded already: nothing is replaced
    assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"]
    assert torch.compiler.disable.__module__ == "torch.compiler"
""")


def test_another_version_that_needs_transformers_gets_it(tmp_path: Path) -> None:
    (tmp_path / "open_clip").mkdir()
    (tmp_path / "open_clip" / "__init__.py").write_text("from open_clip import hf_model, model")
    (tmp_path / "open_clip" / "model.py").write_text("import transformers")
    (tmp_path / "open_clip" / "hf_model.py").write_text(
        "try: import transformers\nexcept ImportError: transformers = 0"
    )
    python(
        """
import sys; sys.path.insert(0, "")
from foclip.models import light

light.import_open_clip()
import open_clip, transformers
assert open_clip.hf_model.transformers is transformers
""",
        folder=tmp_path,
    )


def test_a_text_tower_of_hugging_face_scores_as_ever(tmp_path: Path, photo_files: list[Path]) -> None:
    text, folder = tmp_path / "text", tmp_path / "model"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertConfig(vocab_size=6144, max_position_embeddings=40, **sizes).save_pretrained(text)
    names = {"hf_model_name": str(text), "hf_tokenizer_name": "local", "hf_pooler_type": "mean_pooler"}
    settings = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8},
        "text_cfg": {**names, "hf_proj_type": "mlp", "context_length": 16},
    }
    torch.manual_seed(0)
    towers = settings | {"text_cfg": {**names, "hf_proj_type": "mlp", "hf_model_pretrained": False}}
    model = open_clip.CustomTextCLIP(**towers)
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(embedded.path("mini") / file, folder / file)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": settings, "preprocess_cfg": {"interpolation": "bicubic"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    Image.open(photo_files[0]).convert("RGB").resize((80, 80)).save(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "--prompt", "a cat", "--prompt", "a dog", "--json")
    models = ("--model", f"local-dir:{folder}", "--hardened", f"local-dir:{folder}")
    done = python(COMMAND.format(names="'transformers',"), "score", *arguments, *models)
    assert done.stderr.splitlines()[-1] == "transformers"
    (found,) = json.loads(done.stdout)
    (expected,) = foclip.score(tmp_path / "a.png", ["a cat", "a dog"], model=models[1], hardened=models[3])
    assert found == vars(expected)
