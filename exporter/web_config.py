"""The file behind --web.config.file, as the Prometheus exporter toolkit spells it: TLS, users, headers.

The file is looked at again for each connection and read anew when it changed. A new one that is
wrong changes nothing: the one before stays in force and the log says why.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load

ClientAuth = Literal[
    "", "NoClientCert", "RequestClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
]  # fmt: skip
Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
HEADERS = (
    "Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "X-XSS-Protection",
    "Content-Security-Policy",
)  # fmt: skip
# Go's names of suites to OpenSSL's. Those of TLS 1.3 are always on, there as here.
_SUITES = {
    f"TLS_ECDHE_{key}_WITH_{cipher}": f"ECDHE-{key}-{openssl}"
    for key in ("RSA", "ECDSA")
    for cipher, openssl in {
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
        "CHACHA20_POLY1305": "CHACHA20-POLY1305",
    }.items()
}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}  # fmt: skip


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tls_server_config`."""

    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: ClientAuth = ""
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`http_server_config`. `http2` is taken and has no effect: this server speaks HTTP/1.1."""

    http2: bool = True
    headers: dict[str, str] = {}


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; paths in it are relative to it."""

    tls_server_config: Tls | None = None
    http_server_config: Http = Http()
    basic_auth_users: dict[str, str] = {}


def read(path: Path) -> tuple[WebConfig, ssl.SSLContext | None]:
    """The file checked, and the TLS context it asks for. Raises UserError that names file and key."""
    config = load(path, WebConfig)
    for name, value in config.http_server_config.headers.items():
        if name not in HEADERS:
            raise UserError(
                f"{path}: http_server_config.headers: {name[:80]!r} cannot be set; known: "
                f"{', '.join(HEADERS)}."
            )
        if not value.isprintable() or not value.isascii():
            raise UserError(f"{path}: http_server_config.headers.{name}: write printable ASCII.")
    for user, digest in config.basic_auth_users.items():
        _check_user(path, user, digest)
    tls = config.tls_server_config
    return config, None if tls is None else _context(path, tls)


def _check_user(path: Path, user: str, digest: str) -> None:
    where = f"{path}: basic_auth_users.{user[:80]}"
    if not user or ":" in user:
        raise UserError(f"{where}: a name is not empty and holds no colon.")
    parts = digest.split("$")
    if len(parts) != 4 or parts[1] not in ("2a", "2b", "2y") or len(digest) != 60:
        raise UserError(
            f"{where}: write a bcrypt hash, as `htpasswd -nBC 10 {user[:80]}` prints it."
        )
    if not parts[2].isdigit() or not 4 <= int(parts[2]) <= 14:
        raise UserError(f"{where}: the cost {parts[2]!r} is out of range: use 4 to 14.")


def _context(path: Path, tls: Tls) -> ssl.SSLContext:
    where = f"{path}: tls_server_config"
    if not tls.cert_file or not tls.key_file:
        raise UserError(f"{where}: give both cert_file and key_file.")
    if _VERSIONS[tls.min_version] > _VERSIONS[tls.max_version]:
        raise UserError(
            f"{where}: min_version {tls.min_version} is above max_version {tls.max_version}."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.maximum_version = _VERSIONS[tls.max_version]
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _certificate(context, path, tls)
    _ciphers(context, where, tls)
    _clients(context, path, tls)
    return context


def _certificate(context: ssl.SSLContext, path: Path, tls: Tls) -> None:
    certificate, key = path.parent / tls.cert_file, path.parent / tls.key_file
    for name, file in (("cert_file", certificate), ("key_file", key)):
        if not os.access(file, os.R_OK):
            raise UserError(f"{path}: tls_server_config.{name}: {file} cannot be read.")
    try:
        # without a password callback OpenSSL would ask at the terminal
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError):
        raise UserError(
            f"{path}: tls_server_config: {certificate} and {key} are no PEM certificate with its "
            "unencrypted key."
        ) from None


def _ciphers(context: ssl.SSLContext, where: str, tls: Tls) -> None:
    suites = []
    for suite in tls.cipher_suites:
        if suite in (
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
        ):
            continue
        if suite not in _SUITES:
            raise UserError(f"{where}.cipher_suites: {suite[:80]!r} is unknown or too weak.")
        suites.append(_SUITES[suite])
    if suites:
        context.set_ciphers(":".join(suites))
    if len(tls.curve_preferences) > 1:
        raise UserError(
            f"{where}.curve_preferences: name one curve, or leave it out for all good ones."
        )
    for curve in tls.curve_preferences:
        if curve not in _CURVES:
            raise UserError(
                f"{where}.curve_preferences: {curve[:80]!r} is none of {', '.join(_CURVES)}."
            )
        context.set_ecdh_curve(_CURVES[curve])


def _clients(context: ssl.SSLContext, path: Path, tls: Tls) -> None:
    where = f"{path}: tls_server_config"
    kind = tls.client_auth_type or (
        "RequireAndVerifyClientCert" if tls.client_allowed_sans else "NoClientCert"
    )
    if kind in ("RequestClientCert", "RequireAnyClientCert"):
        raise UserError(
            f"{where}.client_auth_type: {kind} takes certificates that nobody checked; use "
            "VerifyClientCertIfGiven or RequireAndVerifyClientCert."
        )
    if kind == "NoClientCert":
        if tls.client_ca_file or tls.client_allowed_sans:
            raise UserError(
                f"{where}: client_ca_file and client_allowed_sans need "
                "client_auth_type: RequireAndVerifyClientCert."
            )
        return
    if not tls.client_ca_file:
        raise UserError(f"{where}: {kind} needs client_ca_file.")
    try:
        context.load_verify_locations(path.parent / tls.client_ca_file)
    except (ssl.SSLError, OSError):
        raise UserError(
            f"{where}.client_ca_file: {path.parent / tls.client_ca_file} holds no PEM certificate "
            "that can be read."
        ) from None
    required = kind == "RequireAndVerifyClientCert"
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL


def allowed(certificate: Mapping[str, Any] | None, sans: tuple[str, ...]) -> bool:
    """Whether a verified client certificate (`getpeercert()`) has one of these alternative names."""
    if not sans:
        return True
    names = (certificate or {}).get("subjectAltName", ())
    return any(value in sans for _, value in names)


class WebConfigFile:
    """The configuration in force. `log(event, **fields)` is told of reloads."""

    def __init__(self, path: Path, log: Callable[..., None]) -> None:
        self._path = path
        self._log = log
        self.config, self.context = read(path)
        self._seen = self._stamp()
        self.reload_success = True

    def refresh(self) -> None:
        """Read anew what changed; keep the old where the new is wrong. Turning TLS on or off needs a
        restart, since the listener has it or has it not."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            config, context = read(self._path)
            if (context is None) is not (self.context is None):
                raise UserError(f"{self._path}: TLS can be turned on or off by a restart only.")
        except UserError as error:
            self.reload_success = False
            self._log("web_config_kept", why=str(error))
            return
        self.config, self.context, self.reload_success = config, context, True
        self._log("web_config_reloaded", file=str(self._path))

    def _stamp(self) -> tuple[tuple[str, int, int, int], ...]:
        tls = self.config.tls_server_config
        names = [] if tls is None else [tls.cert_file, tls.key_file, tls.client_ca_file]
        found = []
        for path in [self._path, *(self._path.parent / name for name in names if name)]:
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((str(path), status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)
