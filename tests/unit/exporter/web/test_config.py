# ruff: noqa: UP031 - braces of YAML in every line
"""The web configuration: an invalid file results in one sentence with file, key and fix; a valid one is used."""

import re
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from exporter.web.config import WebConfig, read
from exporter.web.reload import ConfigFile
from exporter.web.tls import CURVES, SUITES, allowed, context
from fleetmedic.kernel.errors import UserError

HASH = "$2b$04$VbZTWS1dDpisU1gUE1T8TuWK0zcq0ZaSaROVaD0/fQZrs/17Z2H.O"
PAIR = "cert_file: localhost.crt, key_file: localhost.key"
ALL = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
TLS = "tls_server_config"

# The content of the file, the key in the error, and a part of the fix.
BAD = [
    ("%s: {cert_file: localhost.crt}" % TLS, TLS, "key and key_file are both missing; set one"),
    ("%s: {key_file: localhost.key}" % TLS, TLS, "cert and cert_file are both missing; set one"),
    ("%s: {%s, cert: x}" % (TLS, PAIR), TLS, "remove one"),
    ("%s: {%s, key: x}" % (TLS, PAIR), TLS, "remove one"),
    ("%s: {cert_file: no.crt, key_file: localhost.key}" % TLS, "cert_file", "check the path"),
    ("%s: {cert_file: localhost.crt, key_file: no.key}" % TLS, "key_file", "check the path"),
    ("%s: {cert_file: ., key_file: localhost.key}" % TLS, "cert_file", "cannot read"),
    ('%s: {cert_file: "a\\0b", key_file: localhost.key}' % TLS, "cert_file", "printable"),
    ('%s: {cert_file: localhost.crt, key_file: "\\ud800"}' % TLS, "key_file", "printable"),
    ('%s: {%s, client_auth_type: VerifyClientCertIfGiven, client_ca_file: "a\\0"}' % (TLS, PAIR), "client_ca_file", "printable"),
    ('%s: {cert: "\\ud800", key: x}' % TLS, "cert", "ASCII"),
    ('%s: {cert: x, key: "\\ud800"}' % TLS, "key", "ASCII"),
    ('%s: {%s, client_auth_type: VerifyClientCertIfGiven, client_ca: "\\ud800"}' % (TLS, PAIR), "client_ca", "ASCII"),
    ("%s: {cert_file: junk, key_file: localhost.key}" % TLS, TLS, "expected a PEM certificate"),
    ("%s: {cert_file: localhost.crt, key_file: junk}" % TLS, TLS, "expected a PEM certificate"),
    ("%s: {cert_file: localhost.crt, key_file: other.key}" % TLS, TLS, "matching unencrypted key"),
    ("%s: {cert: junk, key: junk}" % TLS, TLS, "expected a PEM certificate"),
    ("%s: {%s, min_version: SSL3}" % (TLS, PAIR), "min_version", "SSL3"),
    ("%s: {%s, min_version: TLS1.2}" % (TLS, PAIR), "min_version", "TLS1.2"),
    ("%s: {%s, max_version: 1.3}" % (TLS, PAIR), "max_version", "expected"),
    ("%s: {%s, min_version: TLS13, max_version: TLS12}" % (TLS, PAIR), "min_version", "at most max_version"),
    ("%s: {%s, client_auth_type: Always}" % (TLS, PAIR), "client_auth_type", "Always"),
    ("%s: {%s, client_auth_type: RequestClientCert}" % (TLS, PAIR), "client_auth_type", "use RequireAndVerify"),
    ("%s: {%s, client_auth_type: RequireAnyClientCert}" % (TLS, PAIR), "client_auth_type", "use RequireAndVerify"),
    ("%s: {%s, client_auth_type: RequireClientCert}" % (TLS, PAIR), "client_auth_type", "use RequireAndVerify"),
    ("%s: {%s, client_auth_type: RequireAndVerifyClientCert}" % (TLS, PAIR), "client_ca_file", "requires client_ca_file or client_ca"),
    ("%s: {%s, client_auth_type: VerifyClientCertIfGiven}" % (TLS, PAIR), "client_ca_file", "requires client_ca_file or client_ca"),
    ("%s: {%s, client_ca_file: ca.crt}" % (TLS, PAIR), "client_auth_type", "use RequireAndVerify"),
    ("%s: {%s, %s, client_ca: x}" % (TLS, PAIR, ALL), "client_ca", "remove one"),
    ("%s: {%s, client_auth_type: RequireAndVerifyClientCert, client_ca: x}" % (TLS, PAIR), "client_ca", "of the client CA"),
    ("%s: {%s, client_auth_type: RequireAndVerifyClientCert, client_ca_file: junk}" % (TLS, PAIR), "client_ca_file", "of the client CA"),
    ("%s: {%s, client_auth_type: RequireAndVerifyClientCert, client_ca_file: no.crt}" % (TLS, PAIR), "client_ca_file", "check the path"),
    ("%s: {%s, client_allowed_sans: [a]}" % (TLS, PAIR), "client_allowed_sans", "requires client_auth_type"),
    ("%s: {%s, client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt, client_allowed_sans: [a]}" % (TLS, PAIR), "client_allowed_sans", "requires client_auth_type"),
    ("%s: {%s, %s, client_allowed_sans: []}" % (TLS, PAIR, ALL), "client_allowed_sans", "remove the key"),
    ("%s: {%s, %s, client_allowed_sans: a}" % (TLS, PAIR, ALL), "client_allowed_sans", "expected"),
    ("%s: {%s, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}" % (TLS, PAIR), "cipher_suites", "expected one of TLS_AES"),
    ("%s: {%s, cipher_suites: [TLS_AES_128_GCM_SHA256], max_version: TLS12}" % (TLS, PAIR), "cipher_suites", "add other suites"),
    ("%s: {%s, curve_preferences: [CurveP1]}" % (TLS, PAIR), "curve_preferences", "expected one of CurveP256"),
    ("%s: {%s, curve_preferences: [X25519, CurveP256]}" % (TLS, PAIR), "curve_preferences", "expected one curve"),
    ("%s: {%s, certfile: x}" % (TLS, PAIR), TLS, "certfile"),
    ("%s: []" % TLS, TLS, "expected"),
    ("%s: {%s, prefer_server_cipher_suites: 1}" % (TLS, PAIR), "prefer_server_cipher_suites", "expected"),
    ("basic_auth_users: {a: secret}", "basic_auth_users.a", "htpasswd"),
    ("basic_auth_users: {a: ''}", "basic_auth_users.a", "htpasswd"),
    ("basic_auth_users: {a: }", "basic_auth_users", "expected"),
    ("basic_auth_users: {'a:b': '%s'}" % HASH, "basic_auth_users", "without a colon"),
    ("basic_auth_users: {'': '%s'}" % HASH, "basic_auth_users", "1 to 200"),
    ('basic_auth_users: {"a\\0": "%s"}' % HASH, "basic_auth_users", "1 to 200"),
    ("basic_auth_users: {a: '%s'}" % HASH.replace("$04$", "$31$"), "basic_auth_users.a", "recommended: 10"),
    ("basic_auth_users: {a: '%s'}" % HASH.replace("$04$", "$03$"), "basic_auth_users.a", "recommended: 10"),
    ("basic_auth_users: {a: '%s'}" % HASH.replace("$2b$", "$5$b$"), "basic_auth_users.a", "htpasswd"),
    ("basic_auth_users: {a: '%s'}" % HASH[:-1], "basic_auth_users.a", "htpasswd"),
    ("basic_auth_users: [a]", "basic_auth_users", "expected"),
    ("basic_auth_users: {a: '%s', a: '%s'}" % (HASH, HASH), ":1:", "duplicate key"),
    ("http_server_config: {headers: {Set-Cookie: a}}", "headers", "expected one of Content-Security-Policy"),
    ("http_server_config: {headers: {x-frame-options: deny}}", "headers", "expected one of"),
    ("http_server_config: {headers: {X-Frame-Options: allow}}", "X-Frame-Options", "deny or sameorigin"),
    ("http_server_config: {headers: {X-Content-Type-Options: sniff}}", "X-Content-Type-Options", "nosniff"),
    ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nB: c"}}', "X-XSS-Protection", "one line"),
    ("http_server_config: {headers: {X-XSS-Protection: '0 '}}", "X-XSS-Protection", "trailing spaces"),
    ("http_server_config: {headers: {Strict-Transport-Security: ' max-age=1'}}", "Strict-Transport-Security", "trailing spaces"),
    ("http_server_config: {headers: {Content-Security-Policy: ' '}}", "Content-Security-Policy", "trailing spaces"),
    ("http_server_config: {headers: {Content-Security-Policy: é}}", "Content-Security-Policy", "ASCII"),
    ("http_server_config: {http2: 'yes'}", "http2", "expected"),
    ("http_server_config: {http3: true}", "http_server_config", "http3"),
    ("rate_limit: {interval: soon, burst: 1}", "rate_limit.interval", "30s"),
    ("rate_limit: {interval: 5, burst: 1}", "rate_limit.interval", "30s"),
    ("rate_limit: {interval: 1s}", "rate_limit.burst", "at least 1"),
    ("rate_limit: {interval: 1s, burst: -1}", "rate_limit.burst", "at least 1"),
    ("rate_limit: {interval: 1s, burst: 1%s}" % ("0" * 400), "rate_limit.burst", "1000000000"),
    ("users: {}", "$", "users"),
    ("[]", "$", "expected"),
    ("a: *b", ":1:", "aliases"),
    ("{", ":2:", "Close the bracket or quote"),
    ("\ttls_server_config:", ":1:", "Indent with spaces"),
]  # fmt: skip


@pytest.fixture(scope="module")
def keys(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("localhost", "other"):
        leaf = authority.issue_cert(name)
        leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
        leaf.private_key_pem.write_to_path(folder / f"{name}.key")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    (folder / "junk").write_text("no certificate\n")
    return folder


@pytest.fixture
def folder(keys: Path, tmp_path: Path) -> Path:
    shutil.copytree(keys, tmp_path, dirs_exist_ok=True)
    return tmp_path


def whole(folder: Path, text: str) -> tuple[WebConfig, ssl.SSLContext | None]:
    """The parsed file, and its TLS context."""
    path = folder / "web.yml"
    path.write_text(text + "\n")
    config = read(path)
    tls = config.tls
    return config, None if tls is None else context(tls, folder, f"{path}: {TLS}")


@pytest.mark.parametrize(("text", "key", "cure"), BAD)
def test_what_is_wrong_is_one_sentence_with_file_key_and_cure(
    folder: Path, text: str, key: str, cure: str
) -> None:
    with pytest.raises(UserError) as caught:
        whole(folder, text)
    said = str(caught.value)
    assert said.startswith(f"{folder}/web.yml")
    assert key in said
    assert cure in said
    assert said.endswith(".")
    assert "\n" not in said
    assert HASH[10:] not in said, "the error must not contain the hash"


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "web.yml")
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"web\.yml: the text is UTF-16"):
        read(tmp_path / "web.yml")


@pytest.mark.parametrize("text", ["", "{}", "# nothing", "tls_server_config:", "basic_auth_users:",
    "tls_server_config: {}", "http_server_config:\nbasic_auth_users: {}\nrate_limit: {interval: 0}"])  # fmt: skip
def test_an_empty_file_and_empty_sections_ask_for_nothing(tmp_path: Path, text: str) -> None:
    config, tls = whole(tmp_path, text)
    assert tls is None
    assert config.users == {}
    assert config.headers == ()


def test_a_whole_file_is_what_it_says(folder: Path) -> None:
    text = f"""
{TLS}:
  {PAIR.replace(", ", chr(10) + "  ")}
  {ALL.replace(", ", chr(10) + "  ")}
  client_allowed_sans: [prometheus.example]
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384]
http_server_config: {{http2: true, headers: {{X-Frame-Options: deny, X-XSS-Protection: ""}}}}
basic_auth_users: {{prometheus: "{HASH}"}}
rate_limit: {{interval: 100ms, burst: 20}}
"""
    config, tls = whole(folder, text)
    assert tls is not None
    assert tls.minimum_version == tls.maximum_version == ssl.TLSVersion.TLSv1_2
    assert tls.verify_mode == ssl.CERT_REQUIRED
    assert not tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    old = [each["name"] for each in tls.get_ciphers() if not each["name"].startswith("TLS_")]
    assert old == ["ECDHE-ECDSA-AES128-GCM-SHA256"]
    assert config.users == {"prometheus": HASH}
    assert config.headers == (("X-Frame-Options", "deny"),)
    assert config.rate_limit is not None
    assert (config.rate_limit.seconds, config.rate_limit.burst) == (0.1, 20)


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_knows_every_suite_by_the_name_that_it_is_given(folder: Path, suite: str) -> None:
    _, tls = whole(folder, "%s: {%s, cipher_suites: [%s]}" % (TLS, PAIR, suite))
    assert tls is not None
    assert SUITES[suite] in [each["name"] for each in tls.get_ciphers()]


def test_what_openssl_here_does_not_have_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"
    monkeypatch.setitem(SUITES, suite, "NONE-OF-OPENSSL")
    with pytest.raises(
        UserError, match=r"tls_server_config\.cipher_suites: OpenSSL on this machine"
    ):
        whole(folder, "%s: {%s, cipher_suites: [%s]}" % (TLS, PAIR, suite))


def test_suites_for_tls_13_alone_rule_out_what_is_older(folder: Path) -> None:
    _, tls = whole(folder, "%s: {%s, cipher_suites: [TLS_AES_128_GCM_SHA256]}" % (TLS, PAIR))
    assert tls is not None
    assert tls.minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("curve", ["CurveP256", "CurveP384", "CurveP521"])
def test_one_curve_is_taken_by_gos_name(folder: Path, curve: str) -> None:
    assert whole(folder, "%s: {%s, curve_preferences: [%s]}" % (TLS, PAIR, curve))[1] is not None


def python_names(curve: str) -> bool:
    """Whether this Python can select the curve in OpenSSL."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(curve)
    except (ssl.SSLError, ValueError):
        return False
    return True


def test_a_curve_that_this_python_cannot_name_is_one_sentence(folder: Path) -> None:
    text = "%s: {%s, curve_preferences: [X25519]}" % (TLS, PAIR)
    if python_names("X25519"):
        assert whole(folder, text)[1] is not None
        return
    with pytest.raises(
        UserError, match="curve_preferences: Python on this machine cannot select"
    ) as caught:
        whole(folder, text)
    assert "use CurveP256" in str(caught.value)


def test_a_curve_that_is_refused_by_openssl_is_one_sentence_everywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CURVES, "X25519", "no-such-curve")
    with pytest.raises(UserError, match="remove the key"):
        whole(folder, "%s: {%s, curve_preferences: [X25519]}" % (TLS, PAIR))


def test_certificates_may_stand_in_the_file_itself(folder: Path) -> None:
    def inline(name: str) -> str:
        return "".join(f"    {line}\n" for line in (folder / name).read_text().splitlines())

    text = f"{TLS}:\n  cert: |\n{inline('localhost.crt')}  key: |\n{inline('localhost.key')}"
    text += f"  client_ca: |\n{inline('ca.crt')}  client_auth_type: VerifyClientCertIfGiven\n"
    config, tls = whole(folder, text)
    assert tls is not None
    assert tls.verify_mode == ssl.CERT_OPTIONAL
    assert config.tls is not None
    assert config.tls.files == ()


@pytest.mark.parametrize(
    ("sans", "welcome"),
    [
        (("prometheus.example",), True),
        (("10.0.0.1",), True),
        (("2001:db8::1",), True),
        (("a@example.org",), True),
        (("spiffe://cluster/prometheus",), True),
        (("other.example", "10.0.0.1"), True),
        (("PROMETHEUS.example",), False),
        (("example",), False),
        (("*",), False),
    ],
)
def test_a_client_is_let_in_by_each_kind_of_name(sans: tuple[str, ...], welcome: bool) -> None:
    names = (
        ("DNS", "prometheus.example"), ("IP Address", "10.0.0.1"), ("email", "a@example.org"),
        ("IP Address", "2001:DB8:0:0:0:0:0:1"), ("URI", "spiffe://cluster/prometheus"),
        ("DirName", ((("commonName", "x"),),)),
    )  # fmt: skip
    assert allowed({"subjectAltName": names}, sans) is welcome
    assert not allowed(None, sans)
    assert not allowed({}, sans)


class Kept:
    """A watched file, and the log events about it."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.file = ConfigFile(path, lambda event, **fields: self.told.append(f"{event} {fields}"))


def test_a_change_is_taken_and_a_wrong_one_keeps_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("basic_auth_users: {a: '%s'}\n" % HASH)
    kept = Kept(path)
    kept.file.refresh()
    assert kept.told == []
    for text, users, good in (
        ("basic_auth_users: {a: plain}\n", ["a"], False),
        ("basic_auth_users: {b: '%s'}\n" % HASH, ["b"], True),
        ("%s: {cert_file: no.crt, key_file: no.key}\n" % TLS, ["b"], False),
        ("basic_auth_users: {c: '%s'}\n" % HASH, ["c"], True),
    ):
        path.write_text(text)
        kept.file.refresh()
        kept.file.refresh()
        assert (list(kept.file.config.users), kept.file.reloaded) == (users, good)
    path.unlink()
    kept.file.refresh()
    assert list(kept.file.config.users) == ["c"], "a missing file must not disable authentication"
    assert not kept.file.reloaded
    events = [line.split()[0] for line in kept.told]
    assert events == ["web_config_kept", "web_config_reloaded"] * 2 + ["web_config_kept"]


EMPTY = ["", "\n", "# nothing\n", "---\n", "{}\n", "null\n", "basic_auth_users: {}\n"]


@pytest.mark.parametrize("text", EMPTY)
def test_a_reload_does_not_remove_all_users(tmp_path: Path, text: str) -> None:
    path = tmp_path / "web.yml"
    path.write_text("basic_auth_users: {a: '%s'}\n" % HASH)
    kept = Kept(path)
    path.write_text(text)
    kept.file.refresh()
    kept.file.refresh()
    assert (list(kept.file.config.users), kept.file.reloaded) == (["a"], False)
    (line,) = kept.told
    assert line.startswith("web_config_kept ")
    assert f"{path}: basic_auth_users: a reload cannot remove all users. Restore" in line
    path.unlink()
    kept.file.refresh()
    assert (list(kept.file.config.users), kept.file.reloaded) == (["a"], False)
    path.write_text("basic_auth_users: {b: '%s'}\n" % HASH)
    kept.file.refresh()
    assert (list(kept.file.config.users), kept.file.reloaded) == (["b"], True)


@pytest.mark.parametrize("text", [*EMPTY, f"{TLS}: {{}}\n", "basic_auth_users: {a: '%s'}\n" % HASH])
def test_a_reload_does_not_remove_tls(folder: Path, text: str) -> None:
    path = folder / "web.yml"
    path.write_text("%s: {%s}\n" % (TLS, PAIR))
    kept = Kept(path)
    before = kept.file.config
    path.write_text(text)
    kept.file.refresh()
    assert kept.file.tls is not None
    assert (kept.file.config, kept.file.reloaded) == (before, False)
    assert f"{path}: tls_server_config: a reload cannot remove TLS. Restore" in kept.told[0]


def test_a_reload_does_not_remove_the_check_of_client_certificates(folder: Path) -> None:
    path = folder / "web.yml"
    path.write_text("%s: {%s, %s}\n" % (TLS, PAIR, ALL))
    kept = Kept(path)
    path.write_text("%s: {%s}\n" % (TLS, PAIR))
    kept.file.refresh()
    assert not kept.file.reloaded
    assert "client_auth_type: a reload cannot remove the check of client" in kept.told[0]


def test_protection_may_be_added_by_a_reload(folder: Path) -> None:
    path = folder / "web.yml"
    path.write_text("")
    kept = Kept(path)
    path.write_text("basic_auth_users: {a: '%s'}\n%s: {%s}\n" % (HASH, TLS, PAIR))
    kept.file.refresh()
    assert (list(kept.file.config.users), kept.file.reloaded) == (["a"], True)
    assert kept.file.tls is not None


def test_certificates_are_renewed_also_while_a_new_file_is_wrong(folder: Path) -> None:
    web = folder / "web.yml"
    web.write_text("%s: {%s}\n" % (TLS, PAIR))
    file = ConfigFile(web, lambda event, **fields: None)
    before, config = file.tls, file.config
    web.write_text("%s: {%s, nonsense: 1}\n" % (TLS, PAIR))
    file.refresh()
    assert not file.reloaded
    for name in ("crt", "key"):
        (folder / f"other.{name}").replace(folder / f"localhost.{name}")
    file.refresh()
    assert file.tls is not None
    assert file.tls is not before
    assert file.config is config
    assert not file.reloaded
    renewed = file.tls
    (folder / "localhost.key").write_text("junk")
    file.refresh()
    assert file.tls is renewed


def test_files_that_are_named_are_watched_also_while_they_are_missing(
    folder: Path, certified: Callable[[str], trustme.LeafCert]
) -> None:
    path = folder / "web.yml"
    path.write_text("%s: {%s}\n" % (TLS, PAIR))
    kept = Kept(path)
    first = kept.file.tls
    certified("localhost")
    kept.file.refresh()
    assert kept.file.tls is not first, "a new certificate is loaded"
    path.write_text("%s: {cert_file: late.crt, key_file: late.key}\n" % TLS)
    kept.file.refresh()
    assert not kept.file.reloaded
    certified("late")
    kept.file.refresh()
    assert kept.file.reloaded
    (folder / "new").mkdir()
    (folder / "new" / "late.key").write_bytes((folder / "late.key").read_bytes())
    (folder / "new" / "late.key").rename(folder / "late.key")
    kept.file.refresh()
    assert len(kept.told) == 4, "a replaced file is read"


def test_without_a_file_anybody_may_ask_and_nothing_is_watched() -> None:
    file = ConfigFile(None, lambda event, **fields: pytest.fail(event))
    file.refresh()
    assert (file.config, file.tls, file.configured) == (WebConfig(), None, False)


def test_each_bad_file_has_a_sentence_of_its_own() -> None:
    assert len(BAD) == len({re.sub(r"\s", "", text) for text, _, _ in BAD}) > 60
