"""The host list: what it may say, and what Prometheus is told."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from remediator.discovery.hosts import MAX_TARGETS, ScrapeTarget, document, read_hosts


@pytest.fixture
def read(tmp_path):
    """Reads a text as hosts.yml of the cluster `main`."""

    def one(text: str) -> tuple[ScrapeTarget, ...]:
        path = tmp_path / "hosts.yml"
        path.write_text(text)
        return read_hosts(path, "main")

    return one


def test_a_plain_name_is_a_node_with_the_exporters_port_in_the_cluster_of_the_remediator(read) -> None:  # fmt: skip
    assert read("hosts: [gpu-1]") == (ScrapeTarget("gpu-1:9410", "main", "gpu-1"),)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("gpu[1-3]", ["gpu1", "gpu2", "gpu3"]),
        ("gpu[008-010,7]", ["gpu008", "gpu009", "gpu010", "gpu7"]),
        ("r[1-2]n[1,3]-x", ["r1n1-x", "r1n3-x", "r2n1-x", "r2n3-x"]),
        ("gpu[5-5]", ["gpu5"]),
    ],
)
def test_ranges_are_those_of_slurm(read, text, nodes) -> None:
    assert [one.node for one in read(f"hosts: ['{text}']")] == nodes


def test_the_nearest_cluster_and_address_count(read) -> None:
    found = read("""
cluster: a
address: "{node}.example.org:9500"
hosts:
  - one
  - {node: two, cluster: b}
  - {node: three, address: "10.0.0.3:9410"}
  - {node: four, address: "[fe80::1]:9410"}
""")
    assert [(one.node, one.cluster, one.address) for one in found] == [
        ("one", "a", "one.example.org:9500"),
        ("two", "b", "two.example.org:9500"),
        ("three", "a", "10.0.0.3:9410"),
        ("four", "a", "[fe80::1]:9410"),
    ]


def test_prometheus_is_told_cluster_and_node_and_meta_labels_that_shadow_no_series(read) -> None:
    found = read("hosts: [{node: one, labels: {rack: r1, gpu: odd}}]")
    assert json.loads(document(found)) == [
        {
            "targets": ["one:9410"],
            "labels": {
                "cluster": "main", "node": "one",
                "__meta_fleetmedic_gpu": "odd", "__meta_fleetmedic_rack": "r1",
            },
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at $: object missing required field `hosts`"),
        ("hosts: []", "at $.hosts: expected at least one host"),
        ("hosts: gpu1", "at $.hosts: expected `array`"),
        ("hosts: [5]", "at $.hosts[0]: expected"),
        ("hosts: [a, a]", "at $.hosts[1]: duplicate node a of cluster main, already in hosts[0]"),
        (
            "hosts: ['a[1,1]']",
            "at $.hosts[0]: duplicate node a1 of cluster main, already in hosts[0]",
        ),
        (
            "hosts: [{node: a, address: x:1}, {node: b, address: x:1}]",
            "at $.hosts[1]: duplicate address x:1, already in hosts[0]",
        ),
        ("hosts: ['a b']", "at $.hosts[0]: invalid node name 'a b'"),
        ("hosts: ['']", "at $.hosts[0]: invalid node name ''"),
        ('hosts: ["a\\nb"]', "invalid node name"),
        ("hosts: ['../../etc']", "invalid node name"),
        ("hosts: ['a[1-']", "invalid node name"),
        ("hosts: ['a[]']", "at $.hosts[0]: invalid range []"),
        ("hosts: ['a[3-1]']", "at $.hosts[0]: invalid range [3-1]"),
        ("hosts: ['a[1--2]']", "invalid range"),
        ("hosts: ['a[x-z]']", "invalid range"),
        ("hosts: ['a[1-999999999]']", "names 999999999 hosts, more than 20000"),
        ("hosts: ['a[1-9999][1-9999][1-9999]']", "more than 20000"),
        ("hosts: ['a[1-20000]', b]", "at $.hosts[1]: more than 20000 scrape targets"),
        ("hosts: [{node: a, address: nowhere}]", "invalid address 'nowhere'; expected HOST:PORT"),
        ("hosts: [{node: a, address: 'x:0'}]", "expected HOST:PORT"),
        ("hosts: [{node: a, address: 'x:70000'}]", "expected HOST:PORT"),
        ("hosts: [{node: a, address: 'http://x:9410/metrics'}]", "expected HOST:PORT"),
        ("hosts: [{node: a, address: 'user:secret@x:9410'}]", "expected HOST:PORT"),
        ("address: '{rack}:9410'\nhosts: [a]", "expected HOST:PORT"),
        ("cluster: 'a b'\nhosts: [a]", "invalid cluster name 'a b'"),
        ("hosts: [{node: a, port: 1}]", "object contains unknown field `port`"),
        ("hosts: [{node: a, labels: {'a-b': x}}]", "at a key of $.hosts[0].labels"),
        ("hosts: [{node: a, labels: {a: 5}}]", "at $.hosts[0].labels"),
        (f"hosts: [{{node: a, labels: {{a: {'x' * 201}}}}}]", "at $.hosts[0].labels"),
        (
            "hosts: [{node: a, labels: {" + ", ".join(f"l{n}: x" for n in range(17)) + "}}]",
            "at $.hosts[0].labels: expected at most 16 labels",
        ),
        ("hosts: [", "the file ends inside a value"),
        ("hosts: [a]\nhosts: [b]", "duplicate key 'hosts'"),
        ("hosts: [&a b, *a]", "aliases are not supported"),
    ],
)
def test_a_bad_list_is_one_sentence_with_the_place(read, text, said) -> None:
    with pytest.raises(UserError) as caught:
        read(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hosts.yml" in str(caught.value)


def test_a_list_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"hosts\.yml: no such file\. Check the path"):
        read_hosts(tmp_path / "hosts.yml", "main")


def test_the_largest_list_is_taken_whole(read) -> None:
    assert len(read("hosts: ['gpu[00001-20000]']")) == MAX_TARGETS


@given(st.text(max_size=60))
def test_any_text_as_a_name_is_hosts_with_plain_names_or_a_sentence(tmp_path_factory, text) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_text(json.dumps({"hosts": [text]}))
    try:
        found = read_hosts(path, "main")
    except UserError:
        return
    assert found
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", one.node) for one in found)
