"""Creates .venv for a checkout and downloads the programs of the stack. Standard library only, because
the system's python3 runs it before anything is installed.

    python3 tools/setup.py

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


def main() -> int:
    """Install what is missing. Returns the exit code."""
    if sys.version_info < NEEDED:
        return _with_newer_python()
    if not _fresh():
        _make_venv()
        _install()
        STAMP.write_text(_key())
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


def _key() -> str:
    """A hash that changes if .venv must be updated: other dependencies, path or Python."""
    facts = [(ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(facts)).hexdigest()


def _fresh() -> bool:
    return STAMP.is_file() and STAMP.read_text() == _key() and PYTHON.exists()


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


def _install() -> None:
    """Run pip in .venv. Large downloads are printed; the complete output is in setup.log."""
    _say("installing the packages of pyproject.toml into .venv (about 350 MB on disk)")
    environment = {
        **os.environ,
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar=off", "-e", ".[dev]"]
    said = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as pip:
        for line in pip.stdout or ():
            said.append(line)
            words = line.split()
            if words[:1] == ["Downloading"] and line.rstrip().endswith("MB)"):
                print(
                    f"  downloading {words[1].rpartition('/')[2]} {' '.join(words[2:])}", flush=True
                )
    LOG.write_text("".join(said))
    if pip.returncode:
        causes = [line.strip() for line in said if re.match(r"\s*(ERROR|\w+Error): ", line)]
        cause = causes[-1] if causes else (said or ["no output"])[-1].strip()
        raise _fail(
            f"pip could not install the packages ({cause[:300]}). See {LOG}. If the network is missing, "
            "connect the machine and run the setup again."
        )
    count = sum(1 for line in said if line.startswith("Collecting "))
    _say(f"installed {count} packages")


def _fetch_parts() -> int:
    """Download Prometheus and Alertmanager. Not a failure if missing: tests that need them skip."""
    doctor = [str(VENV / "bin" / "fleetmedic"), "doctor", "--fetch"]
    findings = []
    with subprocess.Popen(
        doctor, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as said:
        for line in said.stdout or ():
            if line.startswith(("ok ", "note ", "lack ", " ")):
                findings.append(line)
            else:
                _say(line.rstrip())
    if said.returncode:
        sys.stdout.writelines(findings)
        _say("a requirement is missing (see above); commands that need it will report an error")
    return 0


if __name__ == "__main__":
    sys.exit(main())
