"""What the text tower reads: captions of pictures, words held out of them, and a bank of texts.

Every picture of a class has three kinds of caption: a name of its class in a template, a broader
word ("canine" for a Chihuahua), and, for the paintings, the artwork's prompt.  The superclass
words that evaluation asks for never occur in a caption.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from open_clip import IMAGENET_CLASSNAMES
from open_clip.tokenizer import SimpleTokenizer

from foclip.data.prompts import ARTWORKS

PROMPT = "a photo of a {}."

TEMPLATES = (
    PROMPT,
    "{}",
    "a {}.",
    "a picture of a {}.",
    "an image showing a {}.",
    "a photo of the {}.",
    "a small photo of a {}.",
    "a close view of a {}.",
    "this is a {}.",
    "{}, seen in a photograph",
)

SUPERCLASSES: dict[str, tuple[int, ...]] = {
    "dog": (24, 25, 26, 27, 28, 29),
    "feline": (30, 31, 32, 33, 34),
    "bird": (11, 20, 21, 22),
    "insect": (36, 37, 38, 39, 40, 41, 42, 43, 44, 45),
    "reptile": (4, 5),
    "primate": (54, 55, 56),
    "vehicle": (70, 94, 107, 116, 121, 133, 145, 153, 164, 166),
    "fruit": (186, 187, 188, 189),
    "furniture": (89, 97, 98, 142),
    "clothing": (60, 62, 74, 85, 105, 119, 120, 134, 158, 169),
    "building": (66, 71, 91, 162),
    "landscape": (194, 195, 197, 198),
}
"""Superclass words of the evaluation and the Tiny-ImageNet labels they cover."""

HELD_OUT = re.compile(r"\b(" + "|".join([*SUPERCLASSES, "felid", "feliform", "birdie"]) + r")(e?s)?\b", re.IGNORECASE)

BROADER: dict[str, tuple[int, ...]] = {
    "animal|creature|living being": tuple(range(59)),
    "mammal|furry animal": (12, *range(23, 36), *range(47, 59)),
    "canine|hound|puppy|pooch": (24, 25, 26, 27, 28, 29),
    "cat|kitten|kitty": (30, 31, 32),
    "big cat|wild cat|predator": (33, 34),
    "fowl|winged animal with feathers|avian": (11, 20, 21, 22),
    "bug|arthropod|six-legged creature": tuple(range(36, 46)),
    "butterfly|moth": (44, 45),
    "spider|arachnid": (8, 9),
    "serpent|lizard|scaly creature|crocodilian": (4, 5),
    "amphibian|frog": (1, 2, 3),
    "ape|monkey|simian": (54, 55, 56),
    "crustacean|shellfish|crab": (18, 19),
    "mollusk|invertebrate": (15, 16, 17),
    "sea creature|marine life|ocean animal": (0, 13, 14, 17, 18, 19, 23, 46, 196),
    "fish": (0,),
    "hoofed animal|livestock|cattle": (48, 49, 50, 51, 52, 53),
    "automobile|car|motorcar": (70, 94, 116, 133, 153),
    "transport|means of transportation|motor transport": (
        70,
        81,
        94,
        103,
        107,
        111,
        116,
        121,
        133,
        145,
        153,
        164,
        166,
    ),
    "truck|lorry|bus": (121, 133, 145, 166),
    "train|railway": (81, 103),
    "boat|ship|watercraft": (108, 115),
    "citrus|tropical produce|ripe produce": (186, 187, 188, 189),
    "vegetable": (182, 183, 184, 185),
    "food|something to eat": tuple(range(178, 193)),
    "meal|dish|cooked food": (178, 182, 190, 191, 192),
    "dessert|sweets|snack": (93, 179, 180, 181),
    "furnishing|household furnishings|table|chair": (89, 97, 98, 142),
    "garment|apparel|outfit|attire|clothes": (60, 62, 74, 85, 105, 112, 119, 120, 134, 158, 169),
    "swimwear|beachwear": (74, 158),
    "headwear|hat": (150,),
    "footwear|shoe": (90, 144, 149),
    "accessory|fashion accessory": (63, 77, 123, 156, 168),
    "architecture|house|edifice": (66, 71, 91, 162),
    "monument|stone structure": (124, 165, 84),
    "bridge": (96, 154, 157, 170),
    "tower|mast": (71, 101, 118, 132, 173),
    "store|shop": (65, 82, 93),
    "scenery|nature|outdoor view|natural scene": (194, 195, 197, 198),
    "mountain|rock face": (194, 195),
    "water|shore|beach": (197, 198),
    "electronics|electronic device|gadget": (86, 87, 92, 110, 128, 141),
    "machine|appliance": (86, 114, 140, 147, 151),
    "musical instrument": (99, 125, 126),
    "weapon": (84, 137),
    "bottle|container|vessel": (67, 72, 73, 80, 130, 135, 160, 172),
    "cookware|kitchen utensil": (104, 160, 174, 175),
    "tool|implement": (79, 99, 100, 131, 136),
    "ball|sports equipment": (68, 138, 143, 171),
    "instrument|measuring device": (109, 117, 127, 155),
    "toy": (161,),
    "fence|railing|gate": (64, 129, 167),
}
"""Broader words used in training captions ("a|b" are alternatives) and the labels they cover."""


@dataclass(frozen=True)
class Captions:
    """Every caption that a training picture may get.

    ``classes``: 200 lists of names.  ``artworks``: per artwork its prompt and variants of it.
    ``broader``: the groups of ``BROADER``.  ``others``: names of things on no training picture.
    """

    classes: list[list[str]]
    artworks: list[list[str]]
    broader: list[list[str]]
    members: list[tuple[int, ...]]
    others: list[str]

    def draw(self, n_others: int, rng: random.Random) -> list[str]:
        """One caption per class, artwork and group, then ``n_others`` unrelated ones."""
        first_name_share = 0.7
        texts = []
        for names in self.classes:
            name = names[0] if rng.random() < first_name_share else rng.choice(names)
            template = PROMPT if rng.random() < 0.4 else rng.choice(TEMPLATES)
            texts.append(template.format(name))
        for variants in self.artworks:
            texts.append(variants[0] if rng.random() < 0.6 else rng.choice(variants))
        texts += [rng.choice(TEMPLATES).format(rng.choice(words)) for words in self.broader]
        texts += [rng.choice(TEMPLATES).format(name) for name in rng.sample(self.others, n_others)]
        return texts


def artwork_variants(prompt: str) -> list[str]:
    """The prompt itself, its title alone, and three ways to say that it is a painting."""
    title, artist = prompt.lstrip('"').split('" by ')
    return [
        prompt,
        title,
        f"{title} by {artist}",
        f"a painting of {title} by {artist}",
        f"the painting {title}",
        f"a photo of the artwork {title} by {artist}",
    ]


def build_captions(class_names: Sequence[Sequence[str]]) -> Captions:
    """Captions without the held-out superclass words.

    A name with such a word in it ("German shepherd dog") is dropped; every class has others.
    """
    classes = [[n for n in names if not HELD_OUT.search(n)] for names in class_names]
    if not all(classes):
        raise ValueError("a class has no name left")
    known = {name.lower() for names in class_names for name in names}
    others = [
        name
        for name in IMAGENET_CLASSNAMES
        if name.lower() not in known
        and not HELD_OUT.search(name)
        and not any(word in known for word in name.lower().split())
    ]
    broader = [group.split("|") for group in BROADER]
    if any(HELD_OUT.search(word) for words in broader for word in words):
        raise ValueError("a held-out word is used as a caption")
    return Captions(classes, [artwork_variants(a) for a in ARTWORKS], broader, list(BROADER.values()), others)


def common_words(limit: int) -> list[str]:
    """Whole words of open_clip's BPE vocabulary, most frequent first."""
    entries = SimpleTokenizer().encoder
    words = [e.removesuffix("</w>") for e in entries if e.endswith("</w>")]
    return [w for w in words if w.isascii() and w.isalpha() and len(w) > 2][:limit]


def build_bank(captions: Captions, words: int, seed: int) -> list[tuple[str, str]]:
    """Texts for distillation as (text, its subject): "a picture of a tram." has subject "tram".

    The exact evaluation prompts of the superclasses are left out.
    """
    rng = random.Random(seed)
    vocabulary = [*common_words(words), *SUPERCLASSES]
    named = [n for names in captions.classes for n in names] + list(IMAGENET_CLASSNAMES)
    named += [word for group in captions.broader for word in group]
    pairs = [(w, w) for w in vocabulary]
    pairs += [(rng.choice(TEMPLATES).format(w), w) for w in vocabulary[: words // 2]]
    for name in named:
        pairs += [(t.format(name), name) for t in rng.sample(TEMPLATES, 4)]
        pairs.append((PROMPT.format(name), name))
    for variants in captions.artworks:
        pairs += [(v, variants[0]) for v in variants]
    for _ in range(words // 8):
        first, second = rng.sample(named, 2)
        link = rng.choice(("and a", "on a", "next to a", "in front of a", "with a"))
        text = f"{first} {link} {second}"
        pairs.append((rng.choice(TEMPLATES).format(text), text))
    forbidden = {PROMPT.format(word) for word in SUPERCLASSES}
    return sorted({p for p in pairs if p[0] not in forbidden})
