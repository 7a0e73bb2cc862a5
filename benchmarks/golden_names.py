"""What newer trees call otherwise, and what may differ: the tables that `benchmarks.golden` compares by.

The cases are written in the words of `BASE`. When something gets another name, add it here: old → new. `FLAGS` and
`RESTATED` change what runs in new trees; `KEYS`, `VALUES` and `FILES` are applied to what the old tree wrote.
"""

#: The commit whose words the cases are written in. A tree is old if its `src` is that of this commit.
BASE = "b56d6bb"

#: What restated cases begin with that attack through the library.
_ATTACKED = """
from pathlib import Path
import foclip
from foclip.attacks import AttackTask, FoCLIP, Restart, make_plan, run
from foclip.data.images import read, to_image, to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.detection import View
from foclip.detection.adaptive import DetectorAwareScore
from foclip.detection.detector import hardened_of, shipped
from foclip.models.scores import MeanEnsemble, MinEnsemble
from foclip.objective import FeatureAlignment, Lowest

mini, vit, robust = (foclip.load("clipscore", name) for name in ("mini", "mini-vit", "mini-robust"))
photos = [to_tensor(read(path)) for path in sorted(Path("../pictures/photos").glob("*.png"))]

def attacked(plan, scorer=mini):
    tasks = [AttackTask(photo, ARTWORKS, number) for number, photo in enumerate(photos)]
    found = sorted(run(tasks, scorer, plan), key=lambda fooled: fooled.task.tag)
    for fooled in found:
        to_image(fooled.pixels).save(f"{fooled.task.tag}.png")
    return [[fooled.steps, fooled.stopped_by, fooled.scores] for fooled in found]

"""

#: Flags by command, with or without a value: {"detect --draw": "--seed", "detect --by rule": "--method rule"}.
FLAGS: dict[str, str] = {
    "score --twin": "--hardened",
    "detect --twin": "--hardened",
    "detect --by": "--method",
    "detect --draw": "--seed",
    "scan --by": "--method",
    "scan --draw": "--seed",
}
#: Cases that need more than another flag, whole: {"library-mean": "…the same in the words of the new tree"}.
RESTATED: dict[str, str] = {
    "study-short": """
import sys
from foclip.cli import main
from foclip.studies.harness import StudySettings
StudySettings.steps = 3
sys.argv = "foclip reproduce ablation --quick --images ../pictures/pair --out out".split()
try:
    main()
except SystemExit as end:
    answer = end.code
""",
    "library-score": """
import foclip, numpy, torch
from PIL import Image
picture = Image.open("../pictures/photos/coffee.png")
pixels = torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)
pictures = ["../pictures/photos/coffee.png", picture, pixels, pixels / 255]
answer = foclip.score(pictures, ["a cup.", "a cat."], model=foclip.load("clipscore", "mini"))
""",
    "library-fool": """
import foclip
scorer = foclip.load("clipscore", "mini-vit")
answer = foclip.fool(["../pictures/photos/coffee.png"], ["a dog."], out="out", model=scorer).results[0].score_after
""",
    "library-detect": """
import foclip
scorer = foclip.load("clipscore", "mini")
answer = foclip.detect(["../fool-psnr/out/chelsea.png", "../fool-psnr/out/coffee.png"], "artworks", model=scorer)
""",
    "library-metrics": """
from PIL import Image
from foclip import load_encoder, metrics
folders = ["../pictures/photos", "../fool-captions/out", "../fool-psnr/out"]
pictures = [Image.open(f"{folder}/{name}.png") for folder in folders for name in ("chelsea", "coffee")]
captions = ["a photo of a cat.", "a photo of a cup of coffee."] * len(folders)
answer = {}
for name in ("mini", "mini-vit"):
    plain, robust = metrics.CLIPScore(name), metrics.RobustCLIPScore(name)
    for metric in (plain, robust):
        metric.update(pictures[:3], captions[:3])
        metric.update(pictures[3:], captions[3:])
    whole = metrics.clip_score(pictures, captions, load_encoder(name), 100.0)
    answer[name] = [plain.compute(), robust.compute(), whole]
""",
    "library-encoders": """
from foclip import load_encoder
from foclip.data.images import read, to_tensor
picture = read("../pictures/photos/coffee.png")
answer = {}
for name in ("mini", "mini-vit", "mini-robust"):
    encoder = load_encoder(name)
    pixels = (to_tensor(picture)[None] / 255).requires_grad_(True)
    vector = encoder.embed(pixels)
    vector[0, 0].backward()
    seen = [encoder.encode_pictures([picture]), vector.detach(), pixels.grad[0, :, ::8, ::8]]
    answer[name] = [*seen, encoder.encode_texts(["a cat.", "a dog."]), list(encoder.image_size)]
""",
    "library-views": f"""{_ATTACKED}
views = tuple(View(name, mini.preprocess) for name in ("gray", "webp", "shift", "crop"))
answer = attacked(make_plan(FoCLIP, steps=3, budgets="psnr:36", views=views))
""",
    "library-mean": f"{_ATTACKED}plan = make_plan(FoCLIP, steps=4, budgets='psnr:36')\n"
    "answer = attacked(plan, MeanEnsemble([mini, vit]))\n",
    "library-lower": f"{_ATTACKED}plan = make_plan(FoCLIP, steps=4, budgets='psnr:36')\n"
    "answer = attacked(plan, MinEnsemble([mini, robust]))\n",
    "library-restart": f"{_ATTACKED}answer = attacked(make_plan(Restart, steps=4, budgets='psnr:36', start=2))\n",
    "library-lowest": f"{_ATTACKED}both = FeatureAlignment() + 2 * Lowest()\n"
    "answer = attacked(make_plan(FoCLIP, steps=4, objective=both))\n",
    "library-evading": f"""{_ATTACKED}
judge = shipped(mini.encoder)
aware = DetectorAwareScore(mini, judge, hardened_of(judge, mini), (None, 5))
answer = attacked(make_plan(FoCLIP, steps=3, budgets="psnr:36"), aware)
""",
}
#: Keys of JSON and columns of tables: {"looks": "probes"}.
KEYS: dict[str, str] = {
    "beside": "comparisons",
    "look": "probe",
    "looks": "probes",
    "look_score": "probe_score",
    "guess": "zero_shot_caption",
    "draw": "seed",
    "twin_score": "hardened_score",
}
#: Texts that are values: {"combined": "cascade"}.
VALUES: dict[str, str] = {}
#: Files and folders: {"verdicts.csv": "detections.csv"}.
FILES: dict[str, str] = {}

#: Files of which only the numbers count, in their order: detectors, whose features change their names.
NUMBERS_ONLY = ("calibrate/detector.json",)

#: Differences that do not count, and why. The patterns (of `fnmatch`) are for "case/file:key.of.the.value".
EXPECTED: dict[str, str] = {
    "scan-*.drop": "was always empty with the combined method; now that of the probe that told most",
    "scan-*.drift": "was always empty with the combined method; now that of the probe that told most",
    "scan-*.gray_score": "was always empty with the combined method, and is left out there",
    "scan-*.probe": "new: the probe that told most",
    "scan-*.probe_score": "new: the score under that probe",
    "scan-*.verdict": "new: undecidable is told from clean",
    "scan-*.zero_shot_caption": "new: the caption that stood in for a missing one",
    "scan-*/shards.*": "the list of shards is JSON lines now",
    "calibrate/detector.json:*": "format 1: other names in another order, and each threshold once",
    "study*/out/cache/*": "finished work of studies, in a folder of another name",
    "scores/*": "more scores, and what they need",
    "*:probes*": "new in summaries of scans: how often each probe told most",
    "*ssim": "the mean over windows that lie within the picture, as its authors define it",
    "fool-ssim/*": "within a budget on SSIM, as its authors define it",
    "scan-*/out/manifest.json:found.*": "sources are compared by what was found, not by how they are spelt",
    "scan-*/out/manifest.json:sources.*": "sources are compared by what was found, not by how they are spelt",
    "scan-*/out/manifest.json:passed_over*": "new: which other files were passed over",
    "scan-*/*:0.score": "a line of a sidecar is a caption; they were joined",
    "scan-*/*:0.p_value": "a line of a sidecar is a caption; they were joined",
    "scan-*/*:score_percentiles.50": "a line of a sidecar is a caption; they were joined",
    **{
        f"{case}/*": "the default budget is `invisible`"
        for case in (
            *("fool", "fool-unmasked", "fool-vit", "fool-adam", "fool-apgd", "fool-pgd", "fool-mifgsm"),
            *("fool-cmaes", "fool-single-prompt", "library-fool"),
        )
    },
    "fool-linf/*": "within a budget on SSIM, as its authors define it",
    "fool-flip/*": "FLIP of our own steers, and room is left for what it may differ from its authors'",
    "fool-colour/*": "the first iterate is pulled back until it keeps to all budgets",
    "*.contrast": "new: how visible the change is at all scales",
    "*.q_value": "new: share of false discoveries, where pictures are each other's reference",
    "*.config.batch_size": "a lone picture has one slot",
    "fool-adds-up/*:0.curve.1.1": "a lone picture has one slot, and a pass of one row rounds otherwise",
    "harden/*": "only the captions that it uses are encoded, and a pass of so many rounds otherwise",
    "score-hardened/*.gap": "as above: of the encoder that was hardened",
    "score-hardened/*.hardened_score": "as above: of the encoder that was hardened",
    "*.error": "messages",
    "*.config.min_psnr": "--min-psnr is one of the budgets",
    "*.config.budgets*": "--min-psnr is one of the budgets",
    "*.config.objective": "terms have the paper's names",
    "fool-visible-guard/*": "a guard that nothing used is gone",
    "*/run.json:*": "how to run it again: command line, versions, time",
    "*.html:*": "reports are for people; their numbers are in other files",
    "*.svg:*": "its elements have random names; the same figures are compared as PNG",
    "*.md:*": "cards are for people; their numbers are in other files",
    "*/stderr-*.txt:*": "messages",
    "*/stdout-*.txt:*": "tables for people",
    "*/.unfinished/*": "unfinished work, named by digests",
    "*/cells/*": "finished work of studies, named by digests; what came of it is in their tables",
    "*:*.key": "names work: a digest of settings by their names",
    "*/manifest.json:judge.*": "names work: a digest of settings by their names",
    "*:*fingerprint*": "digest of score, weights and preprocessing",
    "*/seconds.csv:*": "time",
    "*:*seconds": "time",
    "*:*versions*": "versions of packages",
}
