"""The web configuration in force. Looked at again for each request, and read anew when it changed.

A new file that is wrong changes nothing: the one before stays in force, the log and a metric say so.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from exporter.web.config import WebConfig, read
from exporter.web.tls import context
from fleetmedic.kernel.errors import UserError

Stamp = tuple[int, int, int, int] | None


class ConfigFile:
    """`path` is None where none was given: anybody may ask, without TLS. `log(event, **fields)` is
    told of reloads. Raises UserError when the first file is wrong."""

    def __init__(self, path: Path | None, log: Callable[..., None]) -> None:
        self._path = path
        self._log = log
        self._seen: dict[Path, Stamp] = {}
        self.config = WebConfig()
        self.tls: ssl.SSLContext | None = None
        self.reloaded = True  # whether what is in force is what the file says
        if path is not None:
            self._take(path)

    @property
    def given(self) -> bool:
        """Whether there is a file at all."""
        return self._path is not None

    def refresh(self) -> None:
        """Take what changed. Costs a look at each file (some microseconds) when nothing did."""
        if self._path is None or self._seen == {path: _stamp(path) for path in self._seen}:
            return
        try:
            self._take(self._path)
            self.reloaded = True
            self._log("web_config_reloaded", file=str(self._path))
        except UserError as error:
            self.reloaded = False
            self._log("web_config_kept", why=str(error))
            self._renew(self._path)

    def _take(self, path: Path) -> None:
        """Read all of it, and only then put it in force."""
        self._seen = {}
        self._watch([path])
        config = read(path)
        tls = config.tls
        made = None
        if tls is not None:
            self._watch(path.parent / name for name in tls.files)
            made = context(tls, path.parent, f"{path}: tls_server_config")
        if config.users:
            _need_bcrypt(path)
        self.config, self.tls = config, made

    def _renew(self, path: Path) -> None:
        """What is kept in force names files, too: its certificates must not run out meanwhile."""
        tls = self.config.tls
        if tls is None:
            return
        self._watch(path.parent / name for name in tls.files)
        try:
            self.tls = context(tls, path.parent, f"{path}: tls_server_config")
        except UserError:
            pass  # those before stay as well

    def _watch(self, paths: Iterable[Path]) -> None:
        """Remember how these are before they are read: what changes while one is read is seen the
        next time. One that is missing is watched too."""
        self._seen |= {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    """What tells a file from what it was; a replaced one has another inode."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _need_bcrypt(path: Path) -> None:
    try:
        import bcrypt  # noqa: F401
    except ImportError:
        raise UserError(
            f"{path}: basic_auth_users needs bcrypt: pip install 'fleetmedic[exporter]'."
        ) from None
