"""Reads --web.config.file, in the format of the Prometheus exporter toolkit.

A setting that Python's TLS does not support is rejected with an alternative, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from exporter.web.tls import CURVES, TLS13_SUITES, VERSIONS, Tls, suites_known
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load

UNCHECKED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
# Headers that can be set, with their allowed values (empty: any value).
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}
MAX_USERS = 100
MAX_COST = 16  # one check takes 4 s at this cost; each further step doubles the time
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
MAX_BURST = 1_000_000_000
# h11 rejects a value with a space at either end, which would make every response fail.
_VALUE = re.compile(r"|[\x21-\x7e]([\x20-\x7e]{0,1998}[\x21-\x7e])?")


class HttpServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `http_server_config`.

    `http2` is accepted but has no effect, because the server uses HTTP/1.1.
    """

    http2: bool = True
    headers: dict[str, str] | None = None


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `rate_limit`: `burst` requests at once, and one more per `interval`; 0 means no
    limit."""

    interval: str | int = 0
    burst: int = 0

    @property
    def seconds(self) -> float:
        """The interval of the rate limit in seconds; 0 means no limit."""
        return parse_duration(str(self.interval))


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The web configuration file. Paths in the file are relative to the directory of the file."""

    tls_server_config: Tls | None = None
    http_server_config: HttpServerConfig | None = None
    basic_auth_users: dict[str, str] | None = None
    rate_limit: RateLimit | None = None

    @property
    def tls(self) -> Tls | None:
        """The section `tls_server_config`; None if the section is missing or empty."""
        return None if self.tls_server_config in (None, Tls()) else self.tls_server_config

    @property
    def users(self) -> dict[str, str]:
        """Password hashes by user, empty if no authentication is required."""
        return self.basic_auth_users or {}

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Headers for every response. Headers without a value are omitted."""
        given = (self.http_server_config or HttpServerConfig()).headers or {}
        return tuple((name, value) for name, value in given.items() if value)


def read(path: Path) -> WebConfig:
    """Read and validate the file, but not the files that it names. Raises UserError with file and
    key."""
    config = load(path, WebConfig)
    for name, value in ((config.http_server_config or HttpServerConfig()).headers or {}).items():
        _check_header(f"{path}: http_server_config.headers", name, value)
    _check_users(path, config.users)
    if config.rate_limit is not None:
        _check_limit(f"{path}: rate_limit", config.rate_limit)
    if config.tls is not None:
        _check_tls(f"{path}: tls_server_config", config.tls)
    return config


def _check_header(where: str, name: str, value: str) -> None:
    if name not in HEADERS:
        known = ", ".join(HEADERS)
        raise UserError(f"{where}: unsupported header {name[:80]!r}; expected one of {known}.")
    if not _VALUE.fullmatch(value):
        raise UserError(
            f"{where}.{name}: expected one line of printable ASCII without leading or trailing spaces."
        )
    if value and HEADERS[name] and value not in HEADERS[name]:
        raise UserError(f"{where}.{name}: expected {' or '.join(HEADERS[name])}.")


def _check_users(path: Path, users: Mapping[str, str]) -> None:
    where = f"{path}: basic_auth_users"
    if len(users) > MAX_USERS:
        raise UserError(f"{where}: expected at most {MAX_USERS} users, got {len(users)}.")
    for user, digest in users.items():
        if not user or ":" in user or not user.isprintable() or len(user) > 200:
            raise UserError(
                f"{where}: invalid user name {user[:40]!r}: expected 1 to 200 printable characters "
                "without a colon."
            )
        match = _HASH.fullmatch(digest)
        if match is None:
            raise UserError(
                f"{where}.{user[:40]}: expected a bcrypt hash; use the text after the colon that "
                '`htpasswd -nBC 10 ""` prints.'
            )
        if not 4 <= int(match[1]) <= MAX_COST:
            raise UserError(
                f"{where}.{user[:40]}: expected a bcrypt cost of 4 to {MAX_COST} (recommended: 10), "
                f"got {match[1]}."
            )


def _check_limit(where: str, limit: RateLimit) -> None:
    try:
        seconds = limit.seconds
    except UserError as error:
        raise UserError(f"{where}.interval: {error}") from None
    if seconds and limit.burst < 1:
        raise UserError(f"{where}.burst: expected at least 1, or every request would be rejected.")
    if limit.burst > MAX_BURST:
        raise UserError(f"{where}.burst: expected at most {MAX_BURST}.")


def _check_tls(where: str, tls: Tls) -> None:
    for name in ("cert_file", "key_file", "client_ca_file"):
        if not getattr(tls, name).isprintable():
            raise UserError(f"{where}.{name}: expected a path of printable characters.")
    for name in ("cert", "key", "client_ca"):
        if not getattr(tls, name).isascii():
            raise UserError(f"{where}.{name}: expected PEM (ASCII text).")
    for name, text, file in (("cert", tls.cert, tls.cert_file), ("key", tls.key, tls.key_file)):
        if bool(text) is bool(file):
            if text:
                raise UserError(f"{where}: {name} and {name}_file are both set; remove one.")
            raise UserError(f"{where}: {name} and {name}_file are both missing; set one.")
    if tls.client_ca and tls.client_ca_file:
        raise UserError(f"{where}: client_ca and client_ca_file are both set; remove one.")
    if VERSIONS[tls.min_version] > VERSIONS[tls.max_version]:
        raise UserError(
            f"{where}.min_version: expected at most max_version ({tls.max_version}), "
            f"got {tls.min_version}."
        )
    _check_clients(where, tls)
    _check_ciphers(where, tls)
    _check_curves(f"{where}.curve_preferences", tls.curve_preferences)


def _check_clients(where: str, tls: Tls) -> None:
    kind = tls.client_auth_type or "NoClientCert"
    if kind in UNCHECKED:
        raise UserError(
            f"{where}.client_auth_type: {kind} is not supported, because it accepts unverified "
            "certificates; use RequireAndVerifyClientCert or VerifyClientCertIfGiven."
        )
    authority = tls.client_ca or tls.client_ca_file
    if kind == "NoClientCert" and authority:
        raise UserError(
            f"{where}.client_auth_type: required with client_ca or client_ca_file; use "
            "RequireAndVerifyClientCert or VerifyClientCertIfGiven."
        )
    if kind != "NoClientCert" and not authority:
        raise UserError(
            f"{where}.client_ca_file: client_auth_type {kind} requires client_ca_file or client_ca."
        )
    if tls.client_allowed_sans is None:
        return
    if kind != "RequireAndVerifyClientCert":
        raise UserError(
            f"{where}.client_allowed_sans: requires client_auth_type: RequireAndVerifyClientCert."
        )
    if not tls.client_allowed_sans or not all(tls.client_allowed_sans):
        raise UserError(
            f"{where}.client_allowed_sans: expected at least one name and no empty names; "
            "remove the key to allow all names."
        )


def _check_ciphers(where: str, tls: Tls) -> None:
    if tls.cipher_suites is None:
        return
    known = suites_known()
    for suite in tls.cipher_suites:
        if suite not in known:
            raise UserError(
                f"{where}.cipher_suites: unknown or insecure cipher suite {suite[:80]!r}; "
                f"expected one of {', '.join(known)}."
            )
    only_new = set(tls.cipher_suites) <= set(TLS13_SUITES)
    if tls.cipher_suites and only_new and tls.max_version != "TLS13":
        raise UserError(
            f"{where}.cipher_suites: all suites require TLS13, but max_version is "
            f"{tls.max_version}; add other suites."
        )


def _check_curves(where: str, curves: tuple[str, ...] | None) -> None:
    for curve in curves or ():
        if curve not in CURVES:
            raise UserError(
                f"{where}: unknown curve {curve[:80]!r}; expected one of {', '.join(CURVES)}."
            )
    if curves and len(curves) > 1:
        raise UserError(
            f"{where}: expected one curve, because Python's TLS supports one curve or all; "
            "remove the key to allow all safe curves."
        )
