"""Files of other programs: accepted content, and files rejected as a whole."""

import math
import os
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.catalogue import catalogue
from exporter.collectors.textfile import Textfile
from exporter.exposition import Renderer, Sample
from exporter.pages.openmetrics import ExpositionFormat
from exporter.pages.page import Fragment
from exporter.textfile.families import MAX_SERIES, parse
from exporter.textfile.folder import MAX_BYTES, MAX_FILES
from exporter.textfile.merged import Merged
from exporter.textfile.rejected import Reason, TextFileRejected

CATALOGUE = catalogue()


class Folder:
    """A folder of text files, and the collector's output."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logged: list[tuple[str, str]] = []
        self.collector = Textfile([str(path)], CATALOGUE, self._log)

    def _log(self, event: str, **fields: object) -> None:
        self.logged.append((event, f"{fields['about']}: {fields['why']}"))

    def write(self, text: str | bytes, name: str = "a.prom") -> None:
        (self.path / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def page(self) -> str:
        samples = list(self.collector.collect(0.0))
        shown = Renderer(CATALOGUE).render(samples, self.collector.foreign())
        return Fragment(shown).plain(ExpositionFormat.TEXT).decode()

    def samples(self) -> list[Sample]:
        return list(self.collector.collect(0.0))

    def reasons(self) -> dict[str, str]:
        """The reason for the rejection of each file."""
        name = "gpu_exporter_textfile_rejected"
        return {Path(s.labels[0]).name: s.labels[1] for s in self.samples() if s.name == name}

    def names(self) -> set[str]:
        """The series of the files themselves."""
        own = ("node_textfile_", "gpu_exporter_textfile_")
        return {s.name for s in self.samples() if not s.name.startswith(own)}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_file_is_shown_as_it_says(folder: Folder) -> None:
    folder.write(
        "# A remark.\n# HELP site_jobs Jobs \\\\ of a\\nsite.\n# TYPE site_jobs gauge\n"
        'site_jobs{who="a\\"b\\\\c\\nd",}\t3\n  site_jobs { who = "x" , at="here" } -Inf\n\n'
        "# TYPE site_runs_total counter\nsite_runs_total{} 1e3\nsite_untyped .5\n"
    )
    os.utime(folder.path / "a.prom", (1000, 1000.5))
    assert folder.page().splitlines() == [
        "# HELP site_jobs Jobs \\\\ of a\\nsite.", "# TYPE site_jobs gauge",
        'site_jobs{at="",who="a\\"b\\\\c\\nd"} 3.0', 'site_jobs{at="here",who="x"} -Inf',
        f"# HELP site_runs_total Metric read from {folder.path}/a.prom",
        "# TYPE site_runs_total counter", "site_runs_total 1000.0",
        f"# HELP site_untyped Metric read from {folder.path}/a.prom",
        "# TYPE site_untyped untyped", "site_untyped 0.5",
        "# HELP node_textfile_mtime_seconds Unix time of the latest change of an accepted text file.",
        "# TYPE node_textfile_mtime_seconds gauge",
        f'node_textfile_mtime_seconds{{file="{folder.path}/a.prom"}} 1000.5',
        "# HELP node_textfile_scrape_error 1 while a text file or its directory cannot be read, or a file "
        "is rejected.",
        "# TYPE node_textfile_scrape_error gauge", "node_textfile_scrape_error 0",
        "# HELP gpu_exporter_textfile_families_dropped Metric families in text files that the exporter "
        "ignores, because the exporter itself exports metrics of this name.",
        "# TYPE gpu_exporter_textfile_families_dropped gauge",
        "gpu_exporter_textfile_families_dropped 0",
    ]  # fmt: skip


def test_histograms_and_summaries_are_one_family_each(folder: Folder) -> None:
    folder.write(
        '# TYPE h histogram\nh_bucket{le="0.50"} 1\nh_bucket{le="1e0"} 2\nh_sum 3\nh_count 4\n'
        '# TYPE s summary\ns{quantile="0.9"} 1\ns_sum 3\ns_count 2\n'
    )
    assert [line for line in folder.page().splitlines() if line.startswith(("h", "s"))] == [
        'h_bucket{le="0.5"} 1.0', 'h_bucket{le="1"} 2.0', "h_sum 3.0", "h_count 4.0",
        'h_bucket{le="+Inf"} 4.0', 's{quantile="0.9"} 1.0', "s_sum 3.0", "s_count 2.0",
    ]  # fmt: skip


BAD: list[tuple[str | bytes, Reason]] = [
    ("a 3", "format"), ("a 3\r\n", "format"), ("a\n", "format"), ("a \n", "format"),
    ("a 3 1000\n", "timestamp"), ("a 3 -5\n", "timestamp"), ("a 3 x\n", "format"),
    ("a 3 # {x=\"1\"} 2\n", "format"), ("a 3 \n", "format"), ("1a 3\n", "format"),
    ("a-b 3\n", "format"), ("ä 3\n", "format"), ("a ٣\n", "format"), ("a 1_000\n", "format"),
    ("a 0x1p-2\n", "format"), ("a 1e400\n", "format"), ("a .\n", "format"), ("a 1e\n", "format"),
    ("a --1\n", "format"), ("a infinit\n", "format"), ("a 3\x0b\n", "format"), ("a3\n", "format"),
    ("a\u20283\n", "format"), (b"a{x=\"\xff\"} 3\n", "encoding"), (b"\xff\xfea 3\n", "encoding"),
    ("a{x=\"\0\"} 3\n", "encoding"), ("\ufeffa 3\n", "format"),
    ("a{x=\"1\"\n", "format"), ("a{x=\"1} 3\n", "format"), ("a{x=1} 3\n", "format"),
    ("a{x} 3\n", "format"), ("a{=\"1\"} 3\n", "format"), ("a{x=\"1\" y=\"2\"} 3\n", "format"),
    ("a{x=\"1\",,y=\"2\"} 3\n", "format"), ("a{,} 3\n", "format"), ("a{x=\"a\\tb\"} 3\n", "format"),
    ("a{x=\"1\\\"} 3\n", "format"), ("a{x=\"1\",x=\"2\"} 3\n", "format"),
    ("a{__name__=\"b\"} 3\n", "format"), ("a{x:y=\"1\"} 3\n", "format"), ("a{x=\"1\"}3 4 5\n", "format"),
    ("a{x=\"" + "v" * 513 + "\"} 3\n", "limit"), ("n" * 201 + " 3\n", "limit"),
    ("a{" + ",".join(f'l{i}="1"' for i in range(33)) + "} 3\n", "limit"),
    ("# HELP a " + "h" * 2049 + "\na 3\n", "limit"),
    ("a 3\na 4\n", "duplicate"), ('a{x=""} 3\na 3\n', "duplicate"),
    ('a{x="1",y="2"} 3\na{y="2",x="1"} 3\n', "duplicate"),
    ("a 3\n# TYPE a gauge\n", "inconsistent"), ("# TYPE a gauge\n# TYPE a gauge\na 3\n", "inconsistent"),
    ("# HELP a x\n# HELP a x\na 3\n", "inconsistent"), ("# TYPE a gouge\na 3\n", "format"),
    ("# TYPE a-b gauge\n", "format"), ("# HELP a x\\t\na 3\n", "format"), ("# HELP a x\\\na 3\n", "format"),
    ("# TYPE h histogram\nh 1\nh_count 1\n", "format"),
    ('# TYPE h histogram\nh_bucket{le="x"} 1\nh_count 1\n', "format"),
    ('# TYPE h histogram\nh_bucket{le="NaN"} 1\nh_count 1\n', "format"),
    ("# TYPE h histogram\nh_bucket 1\nh_count 1\n", "format"),
    ('# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\n', "format"),
    ('# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="1.0"} 1\nh_count 1\n', "duplicate"),
    ("# TYPE s summary\ns 1\n", "format"),
    ("s_count 1\n# TYPE s summary\ns_count{x=\"1\"} 2\n", "inconsistent"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_a_file_that_is_wrong_in_one_place_is_passed_over_as_a_whole(
    folder: Folder, text: str | bytes, reason: Reason
) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    folder.write(b"before 1\n" + data)
    folder.write("good 1\n", "b.prom")
    assert folder.reasons() == {"a.prom": reason}
    assert folder.names() == {"good"}
    assert "node_textfile_scrape_error 1\n" in folder.page()
    assert f'node_textfile_mtime_seconds{{file="{folder.path}/a.prom"}}' not in folder.page()
    assert any(reason == "encoding" or "line" in why or "histogram" in why or "last line" in why
               for _, why in folder.logged)  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("a 1\n", "a 1\n", "duplicate"),
        ('a{x="1",y="2"} 1\n', 'a{y="2",x="1",z=""} 1\n', "duplicate"),
        ("# TYPE a gauge\na 1\n", '# TYPE a counter\na{x="1"} 1\n', "inconsistent"),
        ("# TYPE a gauge\na 1\n", 'a{x="1"} 1\n', "inconsistent"),
        ("# HELP a One.\na 1\n", '# HELP a Two.\na{x="1"} 1\n', "inconsistent"),
        ("# TYPE h summary\nh_count 1\n", 'h_count{x="1"} 1\n', "inconsistent"),
    ],
)
def test_of_files_that_contradict_each_other_the_first_counts(
    folder: Folder, first: str, second: str, reason: Reason
) -> None:
    folder.write(first, "a.prom")
    folder.write(f"new 1\n{second}", "b.prom")
    assert folder.reasons() == {"b.prom": reason}
    assert "new" not in folder.names()
    (folder.path / "a.prom").unlink()
    assert folder.reasons() == {}
    assert "new" in folder.names()


def test_a_family_of_several_files_is_one(folder: Folder) -> None:
    folder.write('# TYPE a gauge\na{x="1"} 1\n', "a.prom")
    folder.write('# HELP a Told.\n# TYPE a gauge\na{y="1"} 2\n', "b.prom")
    assert folder.page().startswith(
        '# HELP a Told.\n# TYPE a gauge\na{x="1",y=""} 1.0\na{x="",y="1"} 2.0\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "gpu_lost{gpu=\"0\",uuid=\"x\"} 0\n", "# TYPE node_load1 gauge\nnode_load1 99\n", "up 1\n",
        "remediator_paused 1\n", "node_textfile_scrape_error 0\n", "training_running 1\n",
        "# TYPE inference_request_duration_seconds histogram\n"
        "inference_request_duration_seconds_count 1\n",
        "inference_request_duration_seconds_count 1\n", "inference_request_duration_seconds 1\n",
        "# TYPE gpu_exporter_progress_rejected gauge\ngpu_exporter_progress_rejected 1\n",
    ],
)  # fmt: skip
def test_nothing_of_ours_is_taken_from_a_file_and_the_rest_of_it_is(
    folder: Folder, text: str
) -> None:
    folder.write(f"{text}site_thing 1\n")
    assert folder.names() == {"site_thing"}
    page = folder.page()
    assert "gpu_exporter_textfile_families_dropped 1\n" in page
    assert "node_textfile_scrape_error 0\n" in page
    assert [event for event, _ in folder.logged] == ["textfile_family_dropped"]


def test_a_family_that_rules_read_and_others_give_may_come_from_a_file(folder: Folder) -> None:
    folder.write('service_latency_objective_seconds{service="a",tier="1"} 2\n')
    assert 'service_latency_objective_seconds{service="a",tier="1"} 2.0' in folder.page()


def test_what_is_wrong_is_logged_once_until_it_changes(folder: Folder) -> None:
    folder.write("a\n")
    for _ in range(3):
        folder.samples()
    assert len(folder.logged) == 1
    folder.write("a 1\n")
    folder.samples()
    folder.write("a\n")
    folder.samples()
    assert len(folder.logged) == 2


def test_a_file_that_did_not_change_is_not_read_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a 1\n")
    folder.samples()
    monkeypatch.setattr("exporter.textfile.folder.parse", lambda data: pytest.fail("read again"))
    assert folder.names() == {"a"}


def test_files_come_and_go(folder: Folder) -> None:
    assert folder.page().startswith("# HELP node_textfile_scrape_error")
    folder.write("a 1\n")
    assert folder.names() == {"a"}
    folder.write("b 1\n", "not.prom.swp")
    folder.write("b 22\n")
    assert folder.names() == {"b"}
    (folder.path / "a.prom").unlink()
    assert folder.names() == set()


def test_pipes_folders_and_links_out_of_the_folder_are_not_read(folder: Folder) -> None:
    inside = folder.path / "..data"
    inside.mkdir()
    (inside / "good.prom").write_text("linked 1\n")
    (folder.path / "good.prom").symlink_to(Path("..data") / "good.prom")
    secret = folder.path.parent / f"{folder.path.name}-secret"
    secret.write_text("secret 1\n")
    (folder.path / "out.prom").symlink_to(secret)
    (folder.path / "device.prom").symlink_to("/dev/zero")
    (folder.path / "loop.prom").symlink_to("loop.prom")
    (folder.path / "gone.prom").symlink_to("gone")
    os.mkfifo(folder.path / "pipe.prom")
    (folder.path / "folder.prom").mkdir()
    assert folder.names() == {"linked"}
    assert folder.reasons() == {
        "out.prom": "kind", "device.prom": "kind", "loop.prom": "unreadable",
        "gone.prom": "unreadable", "pipe.prom": "kind", "folder.prom": "kind",
    }  # fmt: skip


def test_size_files_and_series_are_bounded(folder: Folder) -> None:
    folder.write("#" + "x" * MAX_BYTES + "\n", "large.prom")
    folder.write("".join(f'a{{n="{n}"}} 1\n' for n in range(MAX_SERIES + 1)), "many.prom")
    folder.write("".join(f'b{{n="{n}"}} 1\n' for n in range(MAX_SERIES)), "most.prom")
    folder.write("c 1\n", "one-more.prom")
    assert folder.reasons() == {
        "large.prom": "size", "many.prom": "limit", "one-more.prom": "limit"
    }  # fmt: skip
    for number in range(MAX_FILES):
        folder.write("", f"0{number}.prom")
    assert set(folder.reasons()) == {"large.prom", "many.prom", "most.prom", "one-more.prom"}
    assert set(folder.reasons().values()) == {"limit"}


def test_labels_of_one_name_cannot_multiply(folder: Folder) -> None:
    lines = [f'a{{l{n}="1"}} 1\n' for n in range(65)]
    folder.write("".join(lines))
    assert folder.reasons() == {"a.prom": "limit"}
    folder.write("".join(lines[:40]))
    folder.write("".join(lines[40:]), "b.prom")
    assert folder.reasons() == {"b.prom": "limit"}


def test_a_folder_that_is_not_there_is_an_error_that_can_be_seen(tmp_path: Path) -> None:
    (tmp_path / "one" / "metrics").mkdir(parents=True)
    (tmp_path / "two" / "metrics").mkdir(parents=True)
    (tmp_path / "two" / "metrics" / "a.prom").write_text("a 1\n")
    gone, pattern = str(tmp_path / "gone"), str(tmp_path / "*" / "metrics")
    collector = Textfile([gone, pattern], CATALOGUE, lambda event, **fields: None)
    found = {(s.name, s.labels): s.value for s in collector.collect(0.0)}
    assert found["gpu_exporter_textfile_rejected", (gone, "unreadable")] == 1
    assert found["node_textfile_scrape_error", ()] == 1
    assert found["a", ()] == 1


def test_the_reasons_of_the_catalogue_are_those_that_there_are() -> None:
    metric = CATALOGUE.get("gpu_exporter_textfile_rejected")
    assert metric.values["reason"] == get_args(Reason)


# ---- arbitrary files

_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
_NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
_LABELS = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,5}", fullmatch=True).filter(lambda n: n != "__name__"),
    _TEXT, max_size=3,
)  # fmt: skip


@given(
    st.lists(
        st.tuples(_NAMES, _LABELS, st.floats(), _TEXT),
        max_size=6, unique_by=lambda line: line[0],
    )
)  # fmt: skip
@settings(deadline=None)
def test_what_was_written_is_what_is_read(
    lines: list[tuple[str, dict[str, str], float, str]],
) -> None:
    text = ""
    for name, labels, value, told in lines:
        escaped = told.replace("\\", "\\\\").replace("\n", "\\n")
        pairs = ",".join(
            '{}="{}"'.format(n, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
            for n, v in labels.items()
        )
        text += f"# HELP {name} {escaped}\n# TYPE {name} gauge\n{name}{{{pairs}}} {value}\n"
    families = parse(text.encode())
    assert list(families) == [name for name, *_ in lines]
    for name, labels, value, told in lines:
        assert (families[name].help or "") == told.lstrip(" \t")
        [((series, found), read)] = families[name].samples.items()
        assert (series, dict(found)) == (name, {n: v for n, v in labels.items() if v})
        assert read == value or (math.isnan(read) and math.isnan(value))


_PIECES = st.sampled_from(
    ["a", "b_count", "h_bucket", " ", "\t", "{", "}", 'x="1"', "le=", '"', "\\", ",", "1", "+Inf",
     "\n", "# TYPE ", "# HELP ", "histogram", "gauge", "#", "é", "-1e3", "1000"]
)  # fmt: skip


_LINES = st.sampled_from(
    [
        "a 1", 'a{x="1"} 2', 'a{y="\\\\",x="2"} NaN', "# TYPE a gauge", "# HELP a Told \\\\ x", "",
        "# TYPE b histogram", 'b_bucket{le="1"} 1', 'b_bucket{le="+Inf"} 3', "b_count 3", "b_sum 2",
        'b_count{x="1"} 1', "# TYPE c summary", 'c{quantile="0.5"} 1', "c_count 2", "c_sum 2", "c 1",
        "# TYPE d counter", "d_total 1", "d 1", "# TYPE d_total counter", "b 1", "# x", "e:f -Inf",
    ]
)  # fmt: skip


@given(
    st.binary(max_size=200)
    | st.lists(_LINES, max_size=9).map(lambda ls: "".join(f"{x}\n" for x in ls).encode())
    | st.lists(_PIECES, max_size=40).map(lambda p: "".join(p).encode())
)
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_refused_or_shown_so_that_others_read_the_same(data: bytes) -> None:
    merged = Merged()
    try:
        families = parse(data)
        merged.add("a.prom", families)
    except TextFileRejected as error:
        assert error.reason in get_args(Reason)  # noqa: PT017 - either is well
        return
    described = merged.schemas()
    blocks = Renderer(CATALOGUE).render(merged.samples(described), described)
    text = Fragment(blocks).plain(ExpositionFormat.TEXT).decode()
    theirs = {  # OpenMetrics requires _total for counters
        (
            sample.name.removesuffix("_total"),
            tuple(sorted(p for p in sample.labels.items() if p[1])),
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert theirs == {
        (name.removesuffix("_total"), labels)
        for family in families.values()
        for name, labels in family.samples
    }
