"""What golden files are made of: the pictures, the command lines and the library calls.

Everything is written in the words of the old tree (`golden_names.BASE`); the tables of `benchmarks.golden_names` say
what newer trees call it. A case is one command of `foclip` or several with ` && ` between them, or, if it has several
lines, Python: what `answer` holds in the end is kept. It runs in a folder of its own, `OUT/<case>`, beside
`OUT/pictures`; some cases read what earlier ones wrote.
"""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image
from skimage import data

#: Photos: of which picture, which part, at which size. The first has the size of mini's input; the others are cropped
#: and made smaller or larger by it.
PHOTOS = {
    "chelsea": ((120, 60, 312, 252), (96, 96)),
    "astronaut": ((140, 20, 340, 200), (120, 108)),
    "coffee": ((180, 20, 340, 300), (80, 140)),
}
CAPTIONS = {
    "chelsea": ["a photo of a cat."],
    "astronaut": ["a photo of an astronaut.", "a portrait of a woman."],
    "coffee": ["a photo of a cup of coffee."],
}
#: Tiles that share no pixel: pictures to calibrate on and to harden with.
TILES, TILE = 20, 64

ARTWORKS, TWO = "--prompts artworks", "--prompts ../pictures/prompts.txt"
#: `fool` of the three photos; eight steps are the least that have two of perceptual refinement.
FOOL = f"fool ../pictures/photos {ARTWORKS} --out out --json"
ONE = f"fool ../pictures/photos/chelsea.png {TWO} --out out --json"
DETECT = "detect ../pictures/photos ../fool-psnr/out ../fool-masked-psnr/out ../fool-captions/out --json"
DETECT_VIT = "detect ../pictures/photos ../fool-vit-psnr/out --model mini-vit --json"
SCORE = "score ../pictures/photos --json"
SCAN = "scan --out out --json --workers 1"

#: What the cases begin with that attack through the library, without a folder of results.
_ATTACKED = """
from pathlib import Path
import foclip
from PIL import Image
from foclip.attacks import FoCLIP, Job, Restart, objective, run
from foclip.detection import View
from foclip.detection.detector import shipped
from foclip.detection.evading import Evading
from foclip.detection.twins import twins_of
from foclip.images import read, to_image, to_tensor
from foclip.objective import Alignment, Lowest
from foclip.prompts import ARTWORKS
from foclip.scores import CLIPScore, Lower, Mean

mini, vit, robust = (CLIPScore(foclip.load(name)) for name in ("mini", "mini-vit", "mini-robust"))
photos = [to_tensor(read(path)) for path in sorted(Path("../pictures/photos").glob("*.png"))]

def attacked(attack, score=mini):
    jobs = [Job(photo, ARTWORKS, number) for number, photo in enumerate(photos)]
    found = sorted(run(attack, score, jobs), key=lambda fooled: fooled.job.tag)
    for fooled in found:
        to_image(fooled.pixels).save(f"{fooled.job.tag}.png")
    return [[fooled.steps, fooled.stopped_by, fooled.scores] for fooled in found]

"""

CASES = {
    # fool: budgets, mask, refinement
    "fool": f"{FOOL} --steps 8",
    "fool-psnr": f"{FOOL} --steps 8 --min-psnr 36",
    "fool-masked-psnr": f"{FOOL} --steps 8 --budget psnr:40",
    "fool-ssim": f"{FOOL} --steps 8 --budget ssim:0.98",
    "fool-linf": f"{FOOL} --steps 8 --budget linf:6 --budget ssim:0.9",
    "fool-flip": f"{FOOL} --steps 8 --budget flip:0.05",
    "fool-unmasked": f"{FOOL} --steps 8 --mask none",
    "fool-colour": f"{FOOL} --steps 8 --budget delta_e:1.5 --budget delta_e99:5 --min-psnr 34",
    # fool: the attack's own settings
    "fool-literal": f"{FOOL} --steps 6 --min-psnr 0 --lr 7 --momentum 0.5",
    "fool-weights": f"{FOOL} --steps 6 --min-psnr 0 --alpha 0.3 --beta 0.2 --balance kl --guard l2",
    "fool-visible-guard": f"{ONE} --steps 6 --min-psnr 0 --guard visible",
    "fool-noise": f"{FOOL} --steps 6 --init noise --seed 3",
    "fool-target": f"{FOOL} --steps 30 --min-psnr 30 --target 0.75",
    "fool-rise": f"{FOOL} --steps 30 --min-psnr 30 --rise 0.6",
    "fool-patience": f"{FOOL} --steps 30 --min-psnr 0 --lr 100 --patience 2",
    "fool-none": f"{FOOL} --steps 0",
    "fool-bfloat16": f"{ONE} --steps 3 --min-psnr 36 --precision bfloat16",
    # fool: prompts, pictures, folders
    "fool-captions": "fool ../pictures/photos --captions ../pictures/captions.csv --steps 8 --min-psnr 40 --out out"
    " --json",
    "fool-sidecar": "fool ../pictures/photos --captions sidecar --steps 8 --min-psnr 36 --out out --json",
    "fool-imagenet": "fool ../pictures/photos --prompts imagenet:25 --steps 4 --batch-size 2 --min-psnr 36"
    " --out out --json",
    "fool-odd": f"fool ../pictures/odd {TWO} --prompt cats --steps 4 --min-psnr 36 --out out --json",
    "fool-large": f"fool ../pictures/large {ARTWORKS} --steps 4 --min-psnr 36 --batch-size 4 --out out --json",
    "fool-adds-up": f"{ONE} --steps 2 --min-psnr 36 && {FOOL} --steps 2 --min-psnr 36 && {ONE} --steps 2 --min-psnr 36",
    "fool-clip-iqa": "fool ../pictures/photos --score clip-iqa --steps 8 --min-psnr 36 --out out --json",
    "fool-default-steps": f"{FOOL} --target 0.7 --min-psnr 36",
    # fool: the other attacks, within the default budget and within PSNR's
    **{
        f"fool-{attack}{name}": f"{FOOL} --attack {attack} --steps {steps}{budget}"
        for attack, steps in {"pgd": 8, "apgd": 10, "adam": 8, "mifgsm": 8, "single-prompt": 8, "cmaes": 20}.items()
        for name, budget in {"": "", "-psnr": " --min-psnr 36", "-free": " --min-psnr 0"}.items()
        if not (name == "-free" and attack in ("apgd", "mifgsm", "single-prompt", "cmaes"))
    },
    # fool: other encoders
    "fool-vit": f"{FOOL} --steps 8 --model mini-vit",
    "fool-vit-psnr": f"{FOOL} --steps 8 --model mini-vit --min-psnr 36",
    "fool-robust": f"{FOOL} --steps 8 --model mini-robust --min-psnr 36",
    # score
    "score": f"{SCORE} {ARTWORKS}",
    "score-fooled": "score ../fool-psnr/out ../fool-vit-psnr/out --prompts imagenet:7 --prompt dogs --json",
    "score-odd": f"score ../pictures/odd {TWO} --scale 100 --json",
    "score-captions": f"{SCORE} --captions ../pictures/captions.csv",
    "score-sidecar": f"{SCORE} --captions sidecar --twin mini-robust",
    "score-clip-iqa": f"{SCORE} --score clip-iqa",
    "score-vit": f"{SCORE} {ARTWORKS} --model mini-vit --twin mini-vit-robust-44",
    "scores": "scores --json",
    # detect
    "detect": f"{DETECT} {ARTWORKS} --out out",
    "detect-without": f"{DETECT} --out out",
    "detect-captions": "detect ../pictures/photos --captions ../pictures/captions.csv --json --twin mini-robust",
    "detect-rule": f"{DETECT} {ARTWORKS} --by rule --fpr 0.05",
    "detect-rule-without": f"{DETECT} --by rule --out out",
    "detect-drawn": f"{DETECT} {ARTWORKS} --draw 271828",
    "detect-odd": f"detect ../pictures/odd {TWO} --json",
    "detect-odd-rule": f"detect ../pictures/odd {TWO} --by rule --json",
    "detect-clip-iqa": f"{DETECT} --score clip-iqa",
    "detect-vit": f"{DETECT_VIT} {ARTWORKS}",
    "detect-vit-without": DETECT_VIT,
    "detect-robust": f"detect ../pictures/photos ../fool-robust/out {ARTWORKS} --model mini-robust --json",
    # scan; `pools` are made of what `fool` wrote
    "pools": """
from benchmarks.golden_cases import write_pools
answer = write_pools(["../pictures/photos", "../fool-captions/out", "../fool-psnr/out"])
""",
    "scan-folder": f"{SCAN} ../pictures/photos ../fool-captions/out ../pictures/odd --keep kept.parquet",
    "scan-tar": f"{SCAN} ../pools/pool.tar --keep kept.npy",
    "scan-table": f"{SCAN} ../pools/pool.parquet --draw 271828 --caption alt --key id --keep kept.txt --min-score 0.1",
    "scan-rule": f"{SCAN} ../pools/pool.tar --by rule --fpr 0.05",
    "scan-vit": f"{SCAN} ../pictures/photos --model mini-vit",
    # calibrate, harden, and what they made in use
    "calibrate": f"calibrate --clean ../pictures/tiles {ARTWORKS} --fooled 8 --steps 12 --fpr 0.1 --out detector.json"
    " --json",
    "detect-calibrated": f"{DETECT} {ARTWORKS} --detector ../calibrate/detector.json",
    "detect-calibrated-without": f"{DETECT} --detector ../calibrate/detector.json --by rule",
    "harden": "harden --images ../pictures/tiles --steps 3 --batch-size 4 --precision float32 --keep 0"
    " --attack-steps 2 --out out --json",
    "score-hardened": f"{SCORE} {ARTWORKS} --twin local-dir:../harden/out",
    # studies: the cheapest as it is, and one with fewer steps than --quick gives it
    "study": "reproduce grayscale --quick --images ../pictures/pair --out out --json",
    "study-short": """
import sys
from foclip.cli import main
from foclip.lab import Settings
Settings.steps = 3
sys.argv = "foclip reproduce ablation --quick --images ../pictures/pair --out out".split()
try:
    main()
except SystemExit as end:
    answer = end.code
""",
    # the library
    "library-score": """
import foclip, numpy, torch
from PIL import Image
picture = Image.open("../pictures/photos/coffee.png")
pixels = torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)
pictures = ["../pictures/photos/coffee.png", picture, pixels, pixels / 255]
answer = foclip.score(pictures, ["a cup.", "a cat."], model=foclip.load("mini"))
""",
    "library-fool": """
import foclip
encoder = foclip.load("mini-vit")
answer = foclip.fool(["../pictures/photos/coffee.png"], ["a dog."], out="out", model=encoder).results[0].score_after
""",
    "library-detect": """
import foclip
encoder = foclip.load("mini")
answer = foclip.detect(["../fool-psnr/out/chelsea.png", "../fool-psnr/out/coffee.png"], "artworks", model=encoder)
""",
    "library-metrics": """
from PIL import Image
from foclip import load, metrics
folders = ["../pictures/photos", "../fool-captions/out", "../fool-psnr/out"]
pictures = [Image.open(f"{folder}/{name}.png") for folder in folders for name in ("chelsea", "coffee")]
captions = ["a photo of a cat.", "a photo of a cup of coffee."] * len(folders)
answer = {}
for name in ("mini", "mini-vit"):
    plain, robust = metrics.CLIPScore(name), metrics.RobustCLIPScore(name)
    for metric in (plain, robust):
        metric.update(pictures[:3], captions[:3])
        metric.update(pictures[3:], captions[3:])
    answer[name] = [plain.compute(), robust.compute(), metrics.clip_score(pictures, captions, load(name), 100.0)]
""",
    "library-encoders": """
from foclip import load
from foclip.images import read, to_tensor
picture = read("../pictures/photos/coffee.png")
answer = {}
for name in ("mini", "mini-vit", "mini-robust"):
    encoder = load(name)
    pixels = (to_tensor(picture)[None] / 255).requires_grad_(True)
    vector = encoder.encode_pixels(pixels)
    vector[0, 0].backward()
    seen = [encoder.encode_pictures([picture]), vector.detach(), pixels.grad[0, :, ::8, ::8]]
    answer[name] = [*seen, encoder.encode_texts(["a cat.", "a dog."]), list(encoder.image_size)]
""",
    "library-views": f"""{_ATTACKED}
views = tuple(View(name, mini.encoder.preprocess) for name in ("gray", "webp", "shift", "crop"))
answer = attacked(FoCLIP(steps=3, min_psnr=36, views=views))
""",
    "library-mean": f"{_ATTACKED}answer = attacked(FoCLIP(steps=4, min_psnr=36), Mean([mini, vit]))\n",
    "library-lower": f"{_ATTACKED}answer = attacked(FoCLIP(steps=4, min_psnr=36), Lower([mini, robust]))\n",
    "library-restart": f"{_ATTACKED}answer = attacked(Restart(steps=4, min_psnr=36, start=2))\n",
    "library-lowest": f"{_ATTACKED}answer = attacked(FoCLIP(steps=4, objective=Alignment() + 2 * Lowest()))\n",
    "library-evading": f"""{_ATTACKED}
judge = shipped(mini.encoder)
answer = attacked(FoCLIP(steps=3, min_psnr=36), Evading(mini, judge, twins_of(judge, mini), (None, 5)))
""",
}


def write_pictures(folder: Path) -> None:
    """Write what the cases work on.

    Args:
        folder: `OUT/pictures`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("photos", "large", "odd", "tiles", "pair"):
        (folder / name).mkdir(parents=True)
    photos = {name: _photo(name).crop(box).resize(size) for name, (box, size) in PHOTOS.items()}
    for name, picture in photos.items():
        picture.save(folder / "photos" / f"{name}.png")
        (folder / "photos" / f"{name}.txt").write_text("\n".join(CAPTIONS[name]) + "\n")
    rows = [f"{name}.png,{caption}" for name, captions in CAPTIONS.items() for caption in captions]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    (folder / "prompts.txt").write_text("a photo of a dog.\na painting of a boat.\n")
    for name in ("astronaut", "coffee"):
        photos[name].save(folder / "pair" / f"{name}.png")
    _photo("coffee").save(folder / "large" / "coffee.png")
    _write_odd(folder / "odd", photos["astronaut"])
    for number, tile in enumerate(_tiles()):
        tile.save(folder / "tiles" / f"{number:02d}.png")


def _photo(name: str) -> Image.Image:
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def _write_odd(folder: Path, picture: Image.Image) -> None:
    """Pictures of other modes, one that is turned by its EXIF, a tiny one, and a file that is no picture."""
    picture.convert("L").save(folder / "gray.png")
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.resize((9, 7)).save(folder / "tiny.png")
    exif = Image.Exif()
    exif[274] = 6  # orientation: to be turned by 90°
    picture.save(folder / "turned.jpg", quality=90, exif=exif)
    (folder / "broken.png").write_text("no picture\n")


def _tiles() -> list[Image.Image]:
    photos = [_photo(name) for name in ("astronaut", "chelsea", "coffee", "rocket")]
    places = [(photo, x, y) for y in (0, 100, 200) for x in (0, 100, 200, 300) for photo in photos]
    return [photo.crop((x, y, x + 100, y + 100)).resize((TILE, TILE)) for photo, x, y in places[:TILES]]


def write_pools(folders: list[str]) -> int:
    """Write the pictures of folders as a WebDataset tar and a Parquet table, and count them.

    One row is damaged, and in the table one is without a caption.
    """
    paths = sorted(path for folder in folders for path in Path(folder).glob("*.png"))
    contents = [path.read_bytes() for path in paths]
    contents[0] = contents[0][:200]
    captions = [CAPTIONS[path.stem][0] for path in paths]
    with tarfile.open("pool.tar", "w") as tar:
        for number, (content, caption) in enumerate(zip(contents, captions, strict=True)):
            members = {"png": content, "json": json.dumps({"uid": f"{number + 1:032x}"}).encode()}
            for suffix, member in (members | {"txt": caption.encode()}).items():
                about = tarfile.TarInfo(f"{number:05d}.{suffix}")
                about.size = len(member)
                tar.addfile(about, io.BytesIO(member))
    names = [f"row-{number}" for number in range(len(contents))]
    columns = {"image": contents, "caption": captions[::-1], "alt": [*captions[:-1], None], "id": names}
    parquet.write_table(pa.table(columns), "pool.parquet", row_group_size=4)
    return len(contents)
