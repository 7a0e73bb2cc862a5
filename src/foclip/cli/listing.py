"""`foclip models` and `foclip scores`."""

import inspect
from typing import Any

from foclip.cli import console
from foclip.cli.options import Json
from foclip.errors import UsageError


def models(json: Json = False) -> None:
    """List encoders: the embedded ones and every pretrained one of open_clip."""
    from foclip.models import catalogue

    rows = catalogue.available()
    if json:
        console.print_json(rows)
        return
    table = console.Table("name", "kind", "input / px", "parameters")
    for row in rows:
        size = "×".join(map(str, row["image_size"])) if isinstance(row["image_size"], list) else str(row["image_size"])
        table.add(row["name"], row["kind"], size, f"{row['parameters']:,}" if row["parameters"] else "–")
    table.show()


def scores(json: Json = False) -> None:
    """List scores: what can be fooled, read and defended."""
    from foclip.models import registry

    rows = [_score(name) for name in registry.available()]
    if json:
        console.print_json(rows)
        return
    for row in rows:
        console.line(f"{row['name']:<12} {row['about']}")


def _score(name: str) -> dict[str, Any]:
    """A score as its class, or the function that makes it, describes it; or why it cannot be loaded."""
    from foclip.models import registry

    try:
        factory = registry.factory(name)
    except UsageError as error:
        return {"name": name, "prompts": [], "about": str(error)}
    kind = getattr(factory, "__self__", factory)  # a class whose method makes it
    prompts = kind.info.default_prompts if hasattr(kind, "info") else ()
    about = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
    return {"name": name, "prompts": list(prompts), "about": about}
