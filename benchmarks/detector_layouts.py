"""How tables of detectors look on pages (`benchmarks.layouts`)."""

from benchmarks.layout import Layout

METHODS = {"rule": "{rule:i.1%}", "combined": "{combined:i.1%}", "no prompt": "{no prompt:i.1%}"}
ALERTS = (
    "own caption, 35 dB",
    "own caption, 40 dB",
    "own caption, +0.2 at 40 dB",
    "ten artworks, 35 dB",
    "ten artworks, 40 dB",
)


def detection(model: str) -> dict[str, Layout]:
    """The tables of `benchmarks.detection`."""
    scenarios = {"scenario": "{scenario}", "file": "{file}", "n": "{n:,}", "rise": "{rise:+.3f}", **METHODS}
    budgets = {"budget": "{budget:.1%}", "false alarms": "{false alarms:i.1%}"} | {
        name: f"{{{name}:i.1%}}" for name in ALERTS
    }
    left = {f"undetected, {method}": f"{{{method}:+.3f}}" for method in METHODS}
    columns = {
        "scenarios": scenarios,
        "alarms": {"pictures": "{pictures}", "n": "{n:,}", **METHODS},
        "budgets": budgets,
        "undetected": {"budget / dB": "{budget / dB}", "rise": "{rise:+.3f}", **left},
        "paper": {"quantity": "{quantity}", "n": "{n:,}", "ours": "{ours:i.1%}", "paper": "{paper:.1%}"},
    }
    return {
        f"detection-{model}-{table}": Layout([f"detection-{model}/{table}"], each) for table, each in columns.items()
    }


def _encoders(*parts: str) -> dict[str, str]:
    """Columns of the encoders through which the universal statistic is judged, with prompts and without."""
    prompts = {"with prompts": "own", "without": "none"}
    return {
        f"`{model}`, {words}": " / ".join(f"{{{model} {kind} {part}:.0%}}" for part in parts)
        for model in JUDGED
        for words, kind in prompts.items()
    }


OWN_CAPTION = tuple(f"own caption, {budget}" for budget in ("40 dB", "45 dB", "50 dB", "invisible"))
#: Encoders that the universal statistic was fitted to, and is judged through, each left out.
JUDGED = ("mini", "mini-vit", "resnet-sigmoid", "mobilevit")
KINDS = JUDGED[:3]
#: By name.
TABLES: dict[str, Layout] = {
    **detection("mini"),
    **detection("mini-vit"),
    "universal-caught": Layout(
        ["universal/caught"],
        {"pictures": "{scenario}", "file": "{state}"}
        | {f"`{model}`": f"{{{model} with prompts:.0%}} / {{{model} without:.0%}}" for model in JUDGED},
        where={"scenario": [*OWN_CAPTION, "ten artworks, 40 dB"]},
        by=("scenario", "state"),
        over=("encoder",),
    ),
    "universal-alarms": Layout(
        ["universal/caught"],
        {"photographs": "{state}"}
        | {f"`{model}`": f"{{{model} with prompts:.1%}} / {{{model} without:.1%}}" for model in JUDGED}
        | {"of so many": "{mini pictures:,}", "95 % interval ends at": "{mini at most:.1%}"},
        where={"scenario": ["clean"]},
        by=("scenario", "state"),
        over=("encoder",),
    ),
    "universal-folders": Layout(
        ["universal/folders"],
        {
            "pictures": "{pictures:,}",
            "of which fooled": "{fooled:,}",
            "how": "{scenario}",
            **_encoders("caught", "false"),
        },
        where={"pictures": [100, 1000], "fooled": [1, 5, 10, 20, 50, 200], "scenario": list(OWN_CAPTION[:2])},
        by=("pictures", "fooled", "scenario"),
        over=("encoder", "prompts"),
    ),
    "kinds-captions": Layout(
        ["kinds/captions"],
        {"captions": "{captions}"}
        | {f"`{model}`": f"{{{model} alarms, class:.1%}} / {{{model} alarms, same:.1%}}" for model in KINDS}
        | {f"caught on `{model}`": f"{{{model} caught, class:.0%}} / {{{model} caught, same:.0%}}" for model in KINDS},
        by=("captions",),
        over=("encoder",),
    ),
    "kinds-folders": Layout(
        ["kinds/folders"],
        {"30 others": "{others}", "prompts": "{prompts}"}
        | {
            f"`{model}`": f"{{{model} caught:.1f}} of {{{model} fooled:,}}, {{{model} alarms, photographs:.1f}} + "
            f"{{{model} alarms, others:.1f}}"
            for model in KINDS
        },
        by=("others", "prompts"),
        over=("encoder",),
    ),
    "with-hardened": Layout(
        ["with-hardened/caught"],
        {"on": "`{model}`", "detector": "{detector}", "file": "{file}"}
        | {
            heading: f"{{{name}:.0%}} / {{{name}, without prompts:.0%}}"
            for heading, name in (("false alarms", "clean"), *((each, each) for each in OWN_CAPTION[:3]))
        },
    ),
    "evading": Layout(
        ["evading/rows"],
        {"attackers": "{attackers}", "rise": "{rise:.2f}", "caught": "{usual:.0%}"}
        | {"with drawn amounts, mean of five seeds": "{drawn, each:.0%}", "by all five seeds": "{all drawn:.0%}"}
        | {"without prompts": "{no prompts:.0%}"},
    ),
}
