"""`foclip models` and `foclip scores`."""

from foclip.cli import console
from foclip.cli.options import Json


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
    import inspect

    from foclip.models import scores

    rows = [
        {
            "name": name,
            "prompts": list(kind.prompts),
            "about": " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()),
        }
        for name, kind in scores.available().items()
    ]
    if json:
        console.print_json(rows)
        return
    for row in rows:
        console.line(f"{row['name']:<12} {row['about']}")
