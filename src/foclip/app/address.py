"""Where the page is on a network, and who may see it."""

from dataclasses import dataclass

from foclip.errors import UsageError

#: Names of this machine that nobody else can reach.
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Address:
    """Where the page is, and who may see it.

    Raises:
        UsageError: Others could reach it without a password, and no proxy is named that keeps them away.
    """

    host: str = LOCAL[0]
    port: int = 7860
    auth: tuple[str, str] | None = None  # user and password
    behind_proxy: str | None = None  # the name under which a reverse proxy shows the page
    root_path: str = ""  # the prefix of paths under which that proxy shows it

    def __post_init__(self) -> None:
        if self.host not in LOCAL and not self.auth and not self.behind_proxy:
            raise UsageError(
                f"host: {self.host} can be reached by others; give --auth USER:PASSWORD, or --behind-proxy NAME if a "
                "reverse proxy asks for a password"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of hosts by which the page may be asked for; none means any."""
        if self.behind_proxy:
            return (self.behind_proxy, *LOCAL)
        return LOCAL if self.host in LOCAL else ()
