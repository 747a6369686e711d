"""TLS as the web configuration asks for it: Go's names become OpenSSL's."""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetmedic.kernel.errors import UserError

if TYPE_CHECKING:
    from exporter.web.config import Tls

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
# Suites of TLS 1.3 are always on, in Go as in Python.
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


def suites_known() -> tuple[str, ...]:
    """Every name that may stand in cipher_suites."""
    return (*TLS13_SUITES, *SUITES)


def context(tls: Tls, folder: Path, where: str) -> ssl.SSLContext:
    """What the section asks for; its files are relative to `folder`. Raises UserError that begins
    with `where`."""
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
    """One curve alone. Pythons differ: some name only the curves of ECDSA to OpenSSL, not X25519."""
    try:
        made.set_ecdh_curve(CURVES[curve])
    except (ssl.SSLError, ValueError):
        raise UserError(
            f"{where}.curve_preferences: this machine's Python cannot ask for {curve} alone; leave "
            "the key out, which takes every safe curve, X25519 first, or name CurveP256."
        ) from None


def allowed(certificate: Mapping[str, Any] | None, sans: tuple[str, ...]) -> bool:
    """Whether a verified client certificate (`getpeercert()`) has one of these alternative names."""
    names = (certificate or {}).get("subjectAltName", ())
    return any(_plain(kind, name) in sans for kind, name in names if isinstance(name, str))


def _plain(kind: str, name: str) -> str:
    """An alternative name as people write it: Python spells IPv6 addresses out."""
    if kind != "IP Address":
        return name
    try:
        return str(ip_address(name.strip()))
    except ValueError:
        return name


def _versions(made: ssl.SSLContext, tls: Tls, where: str) -> None:
    """Versions and suites. OpenSSL speaks TLS 1.0 and 1.1 only at its lowest level of security; it may
    be built without them, and a machine's policy may rule suites out."""
    suites = [SUITES[name] for name in tls.cipher_suites or () if name in SUITES]
    lowest = VERSIONS[tls.min_version]
    if tls.cipher_suites and not suites:
        lowest = ssl.TLSVersion.TLSv1_3
    old = lowest < ssl.TLSVersion.TLSv1_2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions were asked for by name
        try:
            made.minimum_version = lowest
            made.maximum_version = VERSIONS[tls.max_version]
        except (ssl.SSLError, ValueError):
            raise UserError(
                f"{where}.min_version: this machine's OpenSSL does not speak {tls.min_version} to "
                f"{tls.max_version}; use TLS12 and TLS13."
            ) from None
    try:
        if suites or old:
            made.set_ciphers(":".join(suites or ["DEFAULT"]) + ("@SECLEVEL=0" if old else ""))
    except ssl.SSLError:
        raise UserError(
            f"{where}.cipher_suites: this machine's OpenSSL has none of them; name others, or leave "
            "the key out."
        ) from None


def _certificate(made: ssl.SSLContext, tls: Tls, folder: Path, where: str) -> None:
    certificate = tls.cert.encode() or _file(folder / tls.cert_file, f"{where}.cert_file")
    key = tls.key.encode() or _file(folder / tls.key_file, f"{where}.key_file")
    names = [tls.cert_file or "cert", tls.key_file or "key"]
    try:
        with _in_memory(certificate) as first, _in_memory(key) as second:
            # without a password at hand OpenSSL would ask for one at the terminal
            made.load_cert_chain(first, second, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError):
        raise UserError(
            f"{where}: {names[0]} and {names[1]} are no PEM certificate with its unencrypted key; "
            "put in a pair that belongs together."
        ) from None


def _clients(made: ssl.SSLContext, tls: Tls, folder: Path, where: str) -> None:
    name = "client_ca_file" if tls.client_ca_file else "client_ca"
    pem = tls.client_ca.encode() or _file(folder / tls.client_ca_file, f"{where}.{name}")
    try:
        made.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise UserError(
            f"{where}.{name}: this holds no PEM certificate; put in the authority's."
        ) from None
    required = tls.client_auth_type == "RequireAndVerifyClientCert"
    made.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL


def _file(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM)
    except OSError as error:
        raise UserError(
            f"{where}: {path} cannot be read ({error.strerror}); check the path and who owns it."
        ) from None


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """The path of a file that is on no disk: the ssl module takes certificates from files only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
