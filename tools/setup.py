"""Creates .venv for a checkout and downloads the programs of the stack. Standard library only, because
the system's python3 runs it before anything is installed.

    python3 tools/setup.py            what the programs, the tests and the checks need
    python3 tools/setup.py --runtime  what the programs need, for `make demo` and `make up`

uv installs the packages, because it is faster than pip; where uv cannot, pip does.
If the last run succeeded and pyproject.toml is unchanged, it does nothing and needs no network.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

NEEDED = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Written last: a venv without this file is incomplete.
STAMP = VENV / ".complete"
LOG = VENV / "setup.log"


# The extras of pyproject.toml, and megabytes on disk with uv.
RUNTIME, DEVELOPMENT = ("all", 300), ("dev", 580)


def main() -> int:
    """Install what is missing. Returns the exit code."""
    if sys.version_info < NEEDED:
        return _with_newer_python()
    if sys.argv[1:] not in ([], ["--runtime"]):
        raise _fail(f"unknown arguments: {' '.join(sys.argv[1:])}. Expected none, or --runtime.")
    extra, megabytes = RUNTIME if sys.argv[1:] else DEVELOPMENT
    if not _fresh(extra):
        _make_venv()
        _install(extra, megabytes)
        STAMP.write_text(_key(extra))
    return _fetch_parts()


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def _fail(text: str) -> "SystemExit":
    print(f"setup: {text}", file=sys.stderr)
    return SystemExit(2)


def _with_newer_python() -> int:
    for minor in range(20, NEEDED[1] - 1, -1):
        if newer := shutil.which(f"python3.{minor}"):
            return subprocess.call([newer, *sys.argv])
    raise _fail(
        f"expected Python 3.11 or later, got {sys.version_info[0]}.{sys.version_info[1]}. Install a "
        "newer Python, or set its path: `make setup PYTHON=/path/to/python3.12`."
    )


def _key(extra: str) -> str:
    """A hash that changes if .venv must be updated: other dependencies, extra, path or Python."""
    facts = [(ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join([*facts, extra.encode()])).hexdigest()


def _fresh(extra: str) -> bool:
    """Whether .venv has the extra; what development needs includes the runtime."""
    enough = {_key(extra), _key(DEVELOPMENT[0])}
    return STAMP.is_file() and STAMP.read_text() in enough and PYTHON.exists()


def _make_venv() -> None:
    if PYTHON.exists() and _is_ours() and _runs("-m", "pip", "--version"):
        STAMP.unlink(missing_ok=True)
        return
    if VENV.exists():
        _say("removing .venv, because it is incomplete or belongs to another Python")
        shutil.rmtree(VENV)
    try:
        import ensurepip  # noqa: F401 - in Debian a separate package, python3-venv
    except ImportError:
        raise _fail(
            "this Python cannot create a venv: install Debian's package python3-venv "
            "(`apt-get install python3-venv` as root), then run the setup again."
        ) from None
    _say(f"creating .venv with {sys.executable}, Python {sys.version.split()[0]}")
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        shutil.rmtree(VENV, ignore_errors=True)
        raise _fail(
            f"python3 -m venv failed ({said[-1] if said else 'no output'}): install Debian's "
            "package python3-venv, or free some disk space, then run the setup again."
        )


def _runs(*arguments: str) -> bool:
    return not subprocess.run([PYTHON, *arguments], capture_output=True, check=False).returncode


def _is_ours() -> bool:
    """Whether .venv is a venv of this Python. A symbolic link to another venv would mislead pip."""
    said = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.prefix); print(sys.version)"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return said == f"{VENV}\n{sys.version.strip()}"


def _install(extra: str, megabytes: int) -> None:
    """Install the extra of this checkout. The complete output is in setup.log."""
    _say(f"installing the packages of pyproject.toml into .venv (about {megabytes} MB on disk)")
    LOG.write_text("")
    package = ["-e", f".[{extra}]"]
    pip = [str(PYTHON), "-m", "pip", "install", "--progress-bar=off"]
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON)]
    if _run([*pip, "--quiet", "uv>=0.5"])[0] == 0 and _run([*uv, *package])[0] == 0:
        return
    _say("uv could not install the packages; pip does, which takes longer")
    code, said = _run([*pip, *package])
    if code:
        causes = [line.strip() for line in said if re.match(r"\s*(ERROR|\w+Error): ", line)]
        cause = causes[-1] if causes else (said or ["no output"])[-1].strip()
        raise _fail(
            f"pip could not install the packages ({cause[:300]}). See {LOG}. If the network is missing, "
            "connect the machine and run the setup again."
        )


def _run(command: list[str]) -> tuple[int, list[str]]:
    """Run an installer; returns its exit code and output. Prints the large downloads."""
    said: list[str] = []
    try:
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            for line in process.stdout or ():
                said.append(line)
                words = line.split()
                if words[:1] == ["Downloading"] and re.search(r"Mi?B\)$", line.rstrip()):
                    name, size = words[1].rpartition("/")[2], " ".join(words[2:])
                    print(f"  downloading {name} {size}", flush=True)
    except OSError as error:
        said.append(f"{error}\n")
        return 127, said
    finally:
        with LOG.open("a") as log:
            log.writelines(said)
    return process.returncode, said


def _environment() -> dict[str, str]:
    """The environment of the installers. uv reads no settings of pip, so it gets pip's index."""
    found = {
        **os.environ,
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_PROGRESS": "1",
        "UV_SYSTEM_CERTS": "1",
    }
    asked = [PYTHON, "-m", "pip", "config", "get", "global.index-url"]
    index = (
        os.environ.get("PIP_INDEX_URL")
        or subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    )
    if index and not any(name.startswith("UV_") and "INDEX" in name for name in os.environ):
        found["UV_DEFAULT_INDEX"] = index
    return found


def _fetch_parts() -> int:
    """Download Prometheus and Alertmanager. Not a failure if missing: tests that need them skip."""
    doctor = [str(VENV / "bin" / "fleetmedic"), "doctor", "--fetch"]
    findings = []
    with subprocess.Popen(
        doctor, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as said:
        for line in said.stdout or ():
            if line.startswith(("ok ", "note ", "missing ", " ")):
                findings.append(line)
            else:
                _say(line.rstrip())
    if said.returncode:
        sys.stdout.writelines(findings)
        _say("a requirement is missing (see above); commands that need it will report an error")
    return 0


if __name__ == "__main__":
    sys.exit(main())
