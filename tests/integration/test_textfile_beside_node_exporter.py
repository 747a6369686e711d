"""Text files as we show them beside the real node_exporter, on the same folder."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.integration

# What each file holds; @ stands for a name of its own. Both show it, and show the same.
SHOWN = {
    "plain": '# HELP @ Text.\n# TYPE @ gauge\n@{x="1"} 3\n',
    "untyped": "@ 3\n",
    "counter": "# TYPE @_total counter\n@_total 5\n",
    "bare_counter": "# TYPE @ counter\n@ 5\n",
    "label_sets": '@{x="1"} 3\n@{y="1"} 4\n',
    "trailing_comma": '@{x="1",} 3\n',
    "blanks": '  @  {  x = "1" , y="2" }   3\n\n\t@{x="2",y=""}\t4\n',
    "numbers": "@a +Inf\n@b nan\n@c -inf\n@d infinity\n@e .5e-3\n@f 1.\n@g -0\n@h 1E5\n",
    "histogram": '# TYPE @ histogram\n@_bucket{le="1"} 1\n@_bucket{le="+Inf"} 2\n@_sum 3\n@_count 2\n',
    "open_histogram": '# TYPE @ histogram\n@_bucket{le="0.5"} 1\n@_sum 3\n@_count 2\n',
    "summary": '# TYPE @ summary\n@{quantile="0.5"} 1\n@_sum 3\n@_count 2\n',
    "empty": "",
    "remarks": "# hello\n\n\n#\n# HELP\n# TYPE\n#EOF\n@ 1\n",
    "escapes": '# HELP @ one\\ntwo \\\\ x\n@{x="a\\\\b\\"c\\nd"} 1\n',
    "split": '@a 1\n@b 1\n@a{x="2"} 1\n',
    "no_samples": "# HELP @ x\n# TYPE @ gauge\n",
    "colon": "@:b 1\n",
    "late_help": "@ 3\n# HELP @ x\n",
    "upper_type": "# TYPE @ GAUGE\n@ 1\n",
}
# Both pass over the file and say so.
REFUSED = {
    "no_end": "@ 3",
    "carriage": "@ 3\r\n",
    "timestamp": "@ 3 1000\n",
    "late_type": "@ 3\n# TYPE @ gauge\n",
    "two_helps": "# HELP @ x\n# HELP @ y\n@ 3\n",
    "two_types": "# TYPE @ gauge\n# TYPE @ gauge\n@ 3\n",
    "blank_behind": "@ 3 \n",
    "hexadecimal": "@ 0x1p-2\n",
    "underscore": "@ 1_000\n",
    "out_of_range": "@ 1e400\n",
    "label_twice": '@{x="1",x="2"} 3\n',
    "reserved": '@{__name__="1"} 3\n',
    "name": "@ 3\n1a 3\n",
    "type": "# TYPE @ gouge\n@ 3\n",
    "escape": '@{x="a\\tb"} 1\n',
    "no_value": "@\n",
    "exemplar": '@ 1 # {x="1"} 2\n',
    "bound": '# TYPE @ histogram\n@_bucket{le="x"} 1\n@_count 2\n',
}
# node_exporter shows a part of these, an arbitrary one of two values, or 0 for what is not there.
REFUSED_HERE_ALONE = {
    "twice": "@ 3\n@ 4\n",
    "twice_by_an_empty_label": '@{x=""} 1\n@ 2\n',
    "no_count": '# TYPE @ histogram\n@_bucket{le="1"} 1\n@_sum 3\n',
    "value_of_a_histogram": "# TYPE @ histogram\n@ 1\n@_count 2\n",
}

Series = dict[tuple[str, frozenset[tuple[str, str]]], str]


def read(page: str) -> tuple[dict[str, str], Series]:
    """Types by family, and values by series, the labels that are empty left out."""
    types: dict[str, str] = {}
    values: Series = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name.startswith(("case_", "node_textfile_")):
                types[family.name] = family.type
                labels = frozenset((k, v) for k, v in sample.labels.items() if v)
                value = float(sample.value) + 0.0  # of 0 node_exporter forgets the sign
                if sample.name == "node_textfile_mtime_seconds":
                    value = float(math.floor(value))  # and of a time what is less than a second
                values[sample.name, labels] = repr(value)  # so that NaN is equal to itself
    return types, values


def theirs(program: Path, port: int, folder: Path) -> str:
    command = [
        str(program), f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults",
        "--collector.textfile", "--collector.loadavg", f"--collector.textfile.directory={folder}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 15
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                    return str(page.read().decode())
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(10)


def ours(state: Path, *folders: Path) -> str:
    command = [
        sys.executable, "-m", "fleetmedic.cli", "exporter", "--once", f"--state.dir={state}",
        f"--path.kmsg={os.devnull}", "--collector.disable-defaults", "--collector.textfile",
        "--collector.loadavg", *(f"--collector.textfile.directory={folder}" for folder in folders),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.fixture
def program(parts: dict[str, Path]) -> Path:
    return parts["node_exporter"]


def write(folder: Path, cases: dict[str, str]) -> None:
    folder.mkdir()
    for name, text in cases.items():
        (folder / f"{name}.prom").write_text(text.replace("@", f"case_{name}"))


def test_what_both_show_is_the_same_and_what_both_refuse_too(
    program: Path, new_port: Callable[[], int], tmp_path: Path
) -> None:
    write(tmp_path / "files", SHOWN | REFUSED)
    (tmp_path / "files" / "bad_utf8.prom").write_bytes(b'case_utf8{x="\xff"} 3\n')
    told = read(theirs(program, new_port(), tmp_path / "files"))
    mine = read(ours(tmp_path / "state", tmp_path / "files"))
    assert mine[0] == told[0]
    differ = {series for series, value in (mine[1].items() ^ told[1].items())}
    assert {series: (mine[1].get(series), told[1].get(series)) for series in differ} == {}
    assert len(mine[1]) > 40
    files = {
        dict(labels)["file"] for name, labels in mine[1] if name == "node_textfile_mtime_seconds"
    }
    assert {Path(file).stem for file in files} == set(SHOWN)


def test_what_cannot_be_right_is_refused_where_node_exporter_shows_some_of_it(
    program: Path, new_port: Callable[[], int], tmp_path: Path
) -> None:
    write(tmp_path / "files", REFUSED_HERE_ALONE)
    _, told = read(theirs(program, new_port(), tmp_path / "files"))
    _, mine = read(ours(tmp_path / "state", tmp_path / "files"))
    assert any(name.startswith("case_") for name, _ in told)
    assert set(mine) == {("node_textfile_scrape_error", frozenset())}


def test_a_file_that_gives_the_machines_load_does_not_displace_it(tmp_path: Path) -> None:
    """In node_exporter 1.5 either may be shown, whichever was collected first."""
    write(tmp_path / "files", {"load": "# TYPE node_load1 gauge\nnode_load1 9999\n@ 1\n"})
    page = ours(tmp_path / "state", tmp_path / "files")
    assert page.count("\nnode_load1 ") == 1
    assert "node_load1 9999" not in page
    assert "case_load 1.0\n" in page
    assert "gpu_exporter_textfile_families_dropped 1\n" in page


def test_a_series_in_two_folders_is_the_first_ones(tmp_path: Path) -> None:
    write(tmp_path / "one", {"plain": SHOWN["plain"]})
    write(tmp_path / "two", SHOWN)
    _, mine = read(ours(tmp_path / "state", tmp_path / "one", tmp_path / "two"))
    assert mine["case_plain", frozenset({("x", "1")})] == "3.0"
    assert mine["case_histogram_count", frozenset()] == "2.0"
    assert mine["node_textfile_scrape_error", frozenset()] == "1.0"
