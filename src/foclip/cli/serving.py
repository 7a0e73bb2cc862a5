"""`foclip app`."""

from importlib.util import find_spec
from pathlib import Path

from foclip.cli import console, options, progress
from foclip.cli.options import RUN, option
from foclip.errors import UsageError


def app(
    host: str = option("127.0.0.1", "Address to listen at; another than this machine's own needs --auth."),
    port: int = option(7860, "Port to listen at.", min=1, max=65535),
    auth: str | None = option(
        None, "User and password; better given as FOCLIP_AUTH.", metavar="USER:PASSWORD", envvar="FOCLIP_AUTH"
    ),
    data: list[str] | None = option(None, "Folder, tar or table to scan and show; may be repeated.", metavar="PATH"),
    behind_proxy: str | None = option(
        None, "Name of the host under which a reverse proxy shows the page.", metavar="NAME"
    ),
    root_path: str = option("", "Prefix of paths under which that proxy shows it.", metavar="/PREFIX"),
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    climbs: int = option(2, "Pictures that are fooled at the same time; other visitors wait.", RUN, min=1),
    device: options.Device = "auto",
) -> None:
    """Serve a page to the browser: fool a picture and watch, check pictures, compare scores."""
    if find_spec("gradio") is None:
        raise UsageError('app: this needs Gradio; pip install "foclip[app]"')
    user, colon, password = (auth or "").partition(":")
    if auth is not None and not (user and colon and password):
        raise UsageError("auth: write USER:PASSWORD")
    if root_path and not (root_path.startswith("/") and not root_path.endswith("/")):
        raise UsageError(f"root_path: {root_path} does not begin with /, or ends with it")
    from foclip.app.address import Address

    address = Address(host, port, (user, password) if auth else None, behind_proxy, root_path)
    options.check([model], score, data=[Path(source) for source in data or () if "://" not in source])
    chosen = progress.load(model, score, device)
    from foclip.app.limits import Limits
    from foclip.app.served import Served
    from foclip.app.server import serve

    served = Served.of(chosen, Limits(climbs=climbs), data or ())
    console.line(f"http://{f'[{host}]' if ':' in host else host}:{port}{root_path}")
    serve(served, address)
