"""Reloads the web configuration when its files change. The files are checked at each request.

If a new file is invalid, the previous configuration stays in effect. The log and a metric report
this. A new file that removes all users or TLS is invalid too, because an emptied or truncated file
must not disable authentication.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from exporter.web.config import WebConfig, read
from exporter.web.tls import context
from fleetmedic.kernel.errors import UserError

VERIFIED = "RequireAndVerifyClientCert"
Stamp = tuple[int, int, int, int] | None


class ConfigFile:
    """The current web configuration. Without a `path`, there is no authentication and no TLS.

    `log(event, **fields)` logs reloads. Raises UserError if the file is invalid at startup.
    """

    def __init__(self, path: Path | None, log: Callable[..., None]) -> None:
        self._path = path
        self._log = log
        self._seen: dict[Path, Stamp] = {}
        self.config = WebConfig()
        self.tls: ssl.SSLContext | None = None
        self.reloaded = True  # whether the current configuration matches the file
        if path is not None:
            self._load(path)

    @property
    def configured(self) -> bool:
        """Whether a web configuration file is set."""
        return self._path is not None

    def refresh(self) -> None:
        """Reload the web configuration if its files changed. The check needs one stat call per file."""
        if self._path is None or self._seen == {path: _stamp(path) for path in self._seen}:
            return
        try:
            self._load(self._path)
            self.reloaded = True
            self._log("web_config_reloaded", file=str(self._path))
        except UserError as error:
            self.reloaded = False
            self._log("web_config_kept", why=str(error))
            self._reload_certificates(self._path)

    def _load(self, path: Path) -> None:
        """Read and validate all files, then activate the new configuration."""
        self._seen = {}
        self._record_stamps([path])
        config = read(path)
        _check_protection(path, self.config, config)
        tls = config.tls
        made = None
        if tls is not None:
            self._record_stamps(path.parent / name for name in tls.files)
            made = context(tls, path.parent, f"{path}: tls_server_config")
        if config.users:
            _need_bcrypt(path)
        self.config, self.tls = config, made

    def _reload_certificates(self, path: Path) -> None:
        """Reload the certificates of the current configuration while the new file is invalid.

        Otherwise they could expire in this time.
        """
        tls = self.config.tls
        if tls is None:
            return
        self._record_stamps(path.parent / name for name in tls.files)
        try:
            self.tls = context(tls, path.parent, f"{path}: tls_server_config")
        except UserError:
            pass  # the previous certificates stay in effect

    def _record_stamps(self, paths: Iterable[Path]) -> None:
        """Record the versions of these configuration files (including missing files) before they are read.

        So the next check detects changes that are made during the read.
        """
        self._seen |= {path: _stamp(path) for path in paths}


def _check_protection(path: Path, before: WebConfig, after: WebConfig) -> None:
    """Raise UserError if a reload would remove a protection. At startup, `before` has none."""
    checked = [config.tls and config.tls.client_auth_type == VERIFIED for config in (before, after)]
    if before.tls and not after.tls:
        key, lost = "tls_server_config", "TLS"
    elif checked[0] and not checked[1]:
        key, lost = "tls_server_config.client_auth_type", "the check of client certificates"
    elif before.users and not after.users:
        key, lost = "basic_auth_users", "all users"
    else:
        return
    raise UserError(
        f"{path}: {key}: a reload cannot remove {lost}. Restore the key, or restart the exporter to "
        f"remove {lost}."
    )


def _stamp(path: Path) -> Stamp:
    """Return a file's version: a value that changes when the file changes.

    A replaced file has a different inode.
    """
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
            f"{path}: basic_auth_users requires bcrypt; run: pip install 'fleetmedic[exporter]'."
        ) from None
