"""Builds the TLS context from the web configuration.

Converts Go's names of ciphers and curves to OpenSSL's.
"""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

import msgspec

from fleetmedic.kernel.errors import UserError

ClientAuth = Literal[
    "",
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
]
Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
# Suites of TLS 1.3 are always enabled, in Go and in Python.
TLS13_SUITES = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
_CIPHERS = {
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "CHACHA20_POLY1305": "CHACHA20-POLY1305",
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
}
SUITES = {
    f"TLS_ECDHE_{key}_WITH_{cipher}": f"ECDHE-{key}-{name}"
    for key in ("ECDSA", "RSA")
    for cipher, name in _CIPHERS.items()
}
MAX_PEM = 1_000_000


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `tls_server_config`."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: ClientAuth = ""
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[str, ...] | None = None
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The certificate and key files that the section `tls_server_config` names."""
        return tuple(name for name in (self.cert_file, self.key_file, self.client_ca_file) if name)


def suites_known() -> tuple[str, ...]:
    """Return all names of cipher suites that `cipher_suites` accepts."""
    return (*TLS13_SUITES, *SUITES)


def context(tls: Tls, folder: Path, where: str) -> ssl.SSLContext:
    """Return the TLS context of the section. File names are relative to `folder`.

    Raises UserError with a message that starts with `where`.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls.prefer_server_cipher_suites:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        made.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _versions(made, tls, where)
    for curve in tls.curve_preferences or ():
        _curve(made, curve, where)
    _certificate(made, tls, folder, where)
    if tls.client_auth_type in ("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"):
        _clients(made, tls, folder, where)
    return made


def _curve(made: ssl.SSLContext, curve: str, where: str) -> None:
    """Restrict TLS to one elliptic curve. Some Python builds can select only the ECDSA curves, not X25519."""
    try:
        made.set_ecdh_curve(CURVES[curve])
    except (ssl.SSLError, ValueError):
        raise UserError(
            f"{where}.curve_preferences: Python on this machine cannot select {curve} alone; remove "
            "the key to allow all safe curves, X25519 first, or use CurveP256."
        ) from None


def allowed(certificate: Mapping[str, Any] | None, sans: tuple[str, ...]) -> bool:
    """Return whether a verified client certificate (`getpeercert()`) contains one of these
    alternative names."""
    names = (certificate or {}).get("subjectAltName", ())
    return any(_plain(kind, name) in sans for kind, name in names if isinstance(name, str))


def _plain(kind: str, name: str) -> str:
    """Return a certificate's alternative name in its usual form. Python writes IPv6 addresses in full."""
    if kind != "IP Address":
        return name
    try:
        return str(ip_address(name.strip()))
    except ValueError:
        return name


def _versions(made: ssl.SSLContext, tls: Tls, where: str) -> None:
    """Set TLS versions and cipher suites.

    OpenSSL supports TLS 1.0 and 1.1 only at its lowest security level, and may be built without
    them. A system policy may disable suites.
    """
    suites = [SUITES[name] for name in tls.cipher_suites or () if name in SUITES]
    lowest = VERSIONS[tls.min_version]
    if tls.cipher_suites and not suites:
        lowest = ssl.TLSVersion.TLSv1_3
    old = lowest < ssl.TLSVersion.TLSv1_2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the user configured the old versions
        try:
            made.minimum_version = lowest
            made.maximum_version = VERSIONS[tls.max_version]
        except (ssl.SSLError, ValueError):
            raise UserError(
                f"{where}.min_version: OpenSSL on this machine does not support {tls.min_version} to "
                f"{tls.max_version}; use TLS12 and TLS13."
            ) from None
    try:
        if suites or old:
            made.set_ciphers(":".join(suites or ["DEFAULT"]) + ("@SECLEVEL=0" if old else ""))
    except ssl.SSLError:
        raise UserError(
            f"{where}.cipher_suites: OpenSSL on this machine supports none of these suites; use other "
            "suites, or remove the key."
        ) from None


def _certificate(made: ssl.SSLContext, tls: Tls, folder: Path, where: str) -> None:
    certificate = tls.cert.encode() or _file(folder / tls.cert_file, f"{where}.cert_file")
    key = tls.key.encode() or _file(folder / tls.key_file, f"{where}.key_file")
    names = [tls.cert_file or "cert", tls.key_file or "key"]
    try:
        with _in_memory(certificate) as first, _in_memory(key) as second:
            # without a password callback, OpenSSL would prompt on the terminal
            made.load_cert_chain(first, second, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError):
        raise UserError(
            f"{where}: expected a PEM certificate and its matching unencrypted key in {names[0]} and "
            f"{names[1]}."
        ) from None


def _clients(made: ssl.SSLContext, tls: Tls, folder: Path, where: str) -> None:
    name = "client_ca_file" if tls.client_ca_file else "client_ca"
    pem = tls.client_ca.encode() or _file(folder / tls.client_ca_file, f"{where}.{name}")
    try:
        made.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise UserError(f"{where}.{name}: expected the PEM certificate of the client CA.") from None
    required = tls.client_auth_type == "RequireAndVerifyClientCert"
    made.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL


def _file(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM)
    except OSError as error:
        raise UserError(
            f"{where}: cannot read {path} ({error.strerror}); check the path and its permissions."
        ) from None


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Yield the path of an in-memory file, because the ssl module loads certificates from files
    only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
