"""What processes that `calling` forks have imported, open_clip as commands import it; see there."""

from foclip.models import light

light.import_open_clip()

import calling  # noqa: E402, F401

import foclip.api  # noqa: E402
import foclip.cli  # noqa: E402
import foclip.models.open_clip  # noqa: E402
import foclip.reports.fooled  # noqa: E402, F401
