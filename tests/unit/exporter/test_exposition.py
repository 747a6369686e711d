"""Samples become text that Prometheus reads."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.catalogue import catalogue
from exporter.exposition import Renderer, Sample, escape, number


def unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


@given(st.text(max_size=600))
def test_any_label_value_survives_and_stays_on_one_line(value: str) -> None:
    escaped = escape(value)
    assert "\n" not in escaped
    assert not re.search(r'(?<!\\)(\\\\)*"', escaped)
    assert unescape(escaped) == value[:512].replace("\0", "\ufffd")


@given(st.floats())
def test_any_number_is_read_back_as_it_was(value: float) -> None:
    read = float(number(value))
    assert read == value or (read != read and value != value)


def test_a_family_is_whole_however_its_samples_arrive_and_a_series_counts_once() -> None:
    blocks = Renderer(catalogue()).render(
        [
            Sample("gpu_up", ("0", "a"), 1),
            Sample("gpu_lost", ("0", "a"), 0),
            Sample("gpu_up", ("1", "b"), True),
            Sample("gpu_up", ("0", "a"), 0),
        ]
    )
    lines = "".join(block.lines for block in blocks).splitlines()
    assert lines == [
        'gpu_up{gpu="0",uuid="a"} 1',
        'gpu_up{gpu="1",uuid="b"} 1',
        'gpu_lost{gpu="0",uuid="a"} 0',
    ]


def test_a_family_that_is_not_in_the_catalogue_is_refused() -> None:
    with pytest.raises(KeyError):
        Renderer(catalogue()).render([Sample("gpu_mood", (), 1)])


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="gpu_up"):
        Renderer(catalogue()).render([Sample("gpu_up", ("0",), 1)])
