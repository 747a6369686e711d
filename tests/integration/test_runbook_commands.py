"""The commands of the runbooks, run as they stand there on a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetmedic.kernel.share import share
from fleetmedic.stack import binaries

pytestmark = pytest.mark.integration
PAGES = sorted(share("docs/runbooks").glob("*.md"))
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:amtool|promtool) [^`\n]+)`")
PROMETHEUS, ALERTMANAGER = "http://localhost:9090", "http://localhost:9093"


def commands(page: Path) -> list[str]:
    """Every command line of a page that asks Prometheus or Alertmanager, without its remark."""
    text = page.read_text()
    lines = [
        line.strip()
        for block in BLOCK.findall(text)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += INLINE.findall(text)
    return [line for line in lines if line.startswith(("promtool ", "amtool "))]


def _started(command: list[str], ready: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(ready, timeout=1):
                return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope="module")
def services(
    parts: dict[str, Path], new_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Address or file in the pages to the one that is really there."""
    assert parts["prometheus"]
    assert parts["alertmanager"]
    folder = tmp_path_factory.mktemp("services")
    at = {
        PROMETHEUS: f"http://127.0.0.1:{new_port()}",
        ALERTMANAGER: f"http://127.0.0.1:{new_port()}",
    }
    (folder / "prometheus.yml").write_text("global: {scrape_interval: 1m}\n")
    (folder / "alertmanager.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    processes = [
        _started(
            [
                *binaries.command("prometheus"), f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data", f"--web.listen-address={at[PROMETHEUS][7:]}",
            ],
            f"{at[PROMETHEUS]}/-/ready", folder / "prometheus.log",
        ),
        _started(
            [
                *binaries.command("alertmanager"), f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/am", f"--web.listen-address={at[ALERTMANAGER][7:]}",
                "--cluster.listen-address=",
            ],
            f"{at[ALERTMANAGER]}/-/ready", folder / "alertmanager.log",
        ),
    ]  # fmt: skip
    yield at | {
        "/etc/prometheus/prometheus.yml": str(folder / "prometheus.yml"),
        "/etc/prometheus/alertmanager.yml": str(folder / "alertmanager.yml"),
        "/etc/alertmanager/alertmanager.yml": str(folder / "alertmanager.yml"),
    }
    for process in processes:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_what_a_page_says_to_ask_and_to_silence_is_taken(
    page: Path, services: dict[str, str], parts: dict[str, Path]
) -> None:
    found = commands(page)
    for line in found:
        words = shlex.split(line, comments=True)
        words = [words[0], *(_there(word, services) for word in words[1:])]
        if "|" in words:
            words = words[: words.index("|")]
        said = subprocess.run(
            [str(parts[words[0]]), *words[1:]],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert said.returncode == 0, f"{line}\n{said.stdout}{said.stderr}"
    if any(" silence add " in line for line in found):
        with urllib.request.urlopen(
            f"{services[ALERTMANAGER]}/api/v2/silences", timeout=5
        ) as answer:
            silenced = json.load(answer)
        assert any(
            matcher["value"] == page.stem for each in silenced for matcher in each["matchers"]
        )


def _there(word: str, services: dict[str, str]) -> str:
    for here, there in services.items():
        word = word.replace(here, there)
    return word
