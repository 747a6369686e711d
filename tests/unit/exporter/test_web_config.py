# ruff: noqa: UP031 - braces of YAML in every line
"""The web configuration: what is wrong is one sentence with the place, and a good file is what it says."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from exporter.web_config import WebConfigFile, allowed, read
from fleetmedic.kernel.errors import UserError

HASH = "$2b$04$VbZTWS1dDpisU1gUE1T8TuWK0zcq0ZaSaROVaD0/fQZrs/17Z2H.O"
PAIR = "cert_file: server.crt, key_file: server.key"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        if os.environ.get("FLEETMEDIC_REQUIRE_PARTS"):
            pytest.fail("there is no openssl to make certificates with: install it")
        pytest.skip("there is no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "server.key", "-out", "server.crt"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    (folder / "junk.pem").write_text("no certificate\n")
    return folder


def written(certificates: Path, text: str) -> Path:
    path = certificates / "web.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tls_server_config: {cert_file: server.crt}", "give both"),
        ("tls_server_config: {key_file: server.key}", "give both"),
        ("tls_server_config: {cert_file: no.crt, key_file: server.key}", "cert_file"),
        ("tls_server_config: {cert_file: server.crt, key_file: no.key}", "key_file"),
        ("tls_server_config: {cert_file: junk.pem, key_file: server.key}", "no PEM"),
        ("tls_server_config: {cert_file: server.crt, key_file: junk.pem}", "no PEM"),
        ("tls_server_config: {%s, min_version: SSL3}" % PAIR, "min_version"),
        ("tls_server_config: {%s, min_version: TLS1.2}" % PAIR, "min_version"),
        ("tls_server_config: {%s, min_version: TLS13, max_version: TLS12}" % PAIR, "above max_version"),
        ("tls_server_config: {%s, client_auth_type: Always}" % PAIR, "client_auth_type"),
        ("tls_server_config: {%s, client_auth_type: RequestClientCert}" % PAIR, "nobody checked"),
        ("tls_server_config: {%s, client_auth_type: RequireAnyClientCert}" % PAIR, "nobody checked"),
        ("tls_server_config: {%s, client_auth_type: RequireAndVerifyClientCert}" % PAIR, "client_ca_file"),
        ("tls_server_config: {%s, client_auth_type: VerifyClientCertIfGiven}" % PAIR, "client_ca_file"),
        ("tls_server_config: {%s, client_ca_file: server.crt}" % PAIR, "need"),
        ("tls_server_config: {%s, client_allowed_sans: [a]}" % PAIR, "client_ca_file"),
        ("tls_server_config: {%s, client_auth_type: NoClientCert, client_allowed_sans: [a]}" % PAIR, "need"),
        ("tls_server_config: {%s, client_auth_type: RequireAndVerifyClientCert, client_ca_file: junk.pem}" % PAIR, "no PEM"),
        ("tls_server_config: {%s, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}" % PAIR, "cipher_suites"),
        ("tls_server_config: {%s, curve_preferences: [CurveP1]}" % PAIR, "curve_preferences"),
        ("tls_server_config: {%s, curve_preferences: [CurveP256, X25519]}" % PAIR, "one curve"),
        ("tls_server_config: {%s, certfile: x}" % PAIR, "certfile"),
        ("tls_server_config: []", "tls_server_config"),
        ("basic_auth_users: {a: secret}", "bcrypt"),
        ("basic_auth_users: {a: ''}", "bcrypt"),
        ("basic_auth_users: {'a:b': '%s'}" % HASH, "colon"),
        ("basic_auth_users: {'': '%s'}" % HASH, "not empty"),
        ("basic_auth_users: {a: '%s'}" % HASH.replace("$04$", "$31$"), "cost"),
        ("basic_auth_users: {a: '%s'}" % HASH.replace("$2b$", "$5$b$"), "bcrypt"),
        ("basic_auth_users: [a]", "basic_auth_users"),
        ("http_server_config: {headers: {Set-Cookie: a}}", "Set-Cookie"),
        ('http_server_config: {headers: {X-Frame-Options: "a\\r\\nb"}}', "X-Frame-Options"),
        ("http_server_config: {http3: true}", "http3"),
        ("users: {}", "users"),
        ("[]", "web.yml"),
        ("a: *b", "web.yml"),
        ("{", "web.yml"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_that_names_it(
    certificates: Path, text: str, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(written(certificates, text + "\n"))
    assert sentence in str(caught.value)
    assert "web.yml" in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_a_good_file_is_what_it_says(certificates: Path) -> None:
    text = f"""
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_ca_file: server.crt
  client_auth_type: RequireAndVerifyClientCert
  min_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  curve_preferences: [CurveP256]
http_server_config: {{http2: true, headers: {{X-Frame-Options: deny}}}}
basic_auth_users: {{prometheus: "{HASH}"}}
"""
    config, context = read(written(certificates, text))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert config.basic_auth_users == {"prometheus": HASH}


def test_an_empty_file_asks_for_nothing(certificates: Path) -> None:
    config, context = read(written(certificates, "{}\n"))
    assert context is None
    assert config.basic_auth_users == {}


def test_a_client_is_allowed_by_its_alternative_names() -> None:
    certificate = {"subjectAltName": (("DNS", "prometheus.example"), ("IP Address", "10.0.0.1"))}
    assert allowed(certificate, ())
    assert allowed(certificate, ("10.0.0.1",))
    assert not allowed(certificate, ("other.example",))
    assert not allowed(None, ("prometheus.example",))


def test_a_change_is_taken_and_a_wrong_one_keeps_the_one_before(certificates: Path) -> None:
    told: list[str] = []
    path = written(certificates, "basic_auth_users: {a: '%s'}\n" % HASH)
    file = WebConfigFile(path, lambda event, **_: told.append(event))
    path.write_text("basic_auth_users: {a: plain}\n")
    file.refresh()
    assert (list(file.config.basic_auth_users.values()), file.reload_success) == ([HASH], False)
    path.write_text("basic_auth_users: {b: '%s'}\n" % HASH)
    file.refresh()
    assert (list(file.config.basic_auth_users), file.reload_success) == (["b"], True)
    path.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    file.refresh()
    assert (list(file.config.basic_auth_users), file.reload_success) == (["b"], False)
    path.unlink()
    file.refresh()
    assert list(file.config.basic_auth_users) == ["b"]
    assert told == ["web_config_kept", "web_config_reloaded", "web_config_kept", "web_config_kept"]
