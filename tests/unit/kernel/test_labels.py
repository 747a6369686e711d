"""A target is one word for a GPU, node, job or workload; it survives being written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind, valid_name

names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,30}\Z")
targets = st.one_of(
    st.builds(Target, st.just(TargetKind.GPU), names, st.integers(0, 9999)),
    st.builds(
        Target, st.sampled_from([TargetKind.NODE, TargetKind.JOB, TargetKind.WORKLOAD]), names
    ),
)


@given(targets)
def test_what_is_written_is_read_back(target: Target) -> None:
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu/node2/3", Target(TargetKind.GPU, "node2", 3)),
        ("node2/3", Target(TargetKind.GPU, "node2", 3)),
        ("node2/gpu3", Target(TargetKind.GPU, "node2", 3)),
        ("node/node2", Target(TargetKind.NODE, "node2")),
        ("node2", Target(TargetKind.NODE, "node2")),
        ("job/train-a", Target(TargetKind.JOB, "train-a")),
        ("workload/serve", Target(TargetKind.WORKLOAD, "serve")),
    ],
)
def test_people_may_write_it_short(text: str, expected: Target) -> None:
    assert Target.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/b/c", "../etc", "node2/../3", "node 2", "node2/3\n", "job/", "gpu/n/99999",
     "-x", ".hidden", "a" * 254, "job/a/b", "node2/٣", "job/\x00"],
)  # fmt: skip
def test_anything_else_is_refused_and_not_quoted_whole(text: str) -> None:
    with pytest.raises(UserError, match="expected a target") as caught:
        Target.parse(text)
    assert len(str(caught.value)) < 200


@given(st.text(max_size=30))
def test_a_valid_name_is_safe_in_a_path(text: str) -> None:
    if valid_name(text):
        assert "/" not in text
        assert "\n" not in text
        assert text not in (".", "..")
        assert text.isascii()


def test_only_gpus_and_nodes_know_their_node() -> None:
    assert Target(TargetKind.GPU, "node2", 3).node == "node2"
    assert Target(TargetKind.NODE, "node2").node == "node2"
    assert Target(TargetKind.JOB, "train").node is None
