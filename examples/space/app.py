"""The page of `foclip app`, on a Hugging Face Space."""

import os

from foclip.app.address import Address
from foclip.app.limits import Limits
from foclip.app.served import Served
from foclip.app.server import serve
from foclip.models import load

if __name__ == "__main__":
    address = Address("0.0.0.0", 7860, behind_proxy=os.environ["SPACE_HOST"])  # noqa: S104 (the proxy's side)
    serve(Served.of(load("clipscore", "mini"), Limits(seconds=60)), address)
