"""The format of the page depends on the Accept header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pages.openmetrics import ExpositionFormat, negotiate

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2_42_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;"
    "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;"
    "q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_TEXT_ONLY = "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.6,*/*;q=0.5"
PROMETHEUS_3_TEXT_FIRST = (
    "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.4"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS_2_42, ExpositionFormat.OPENMETRICS),
        (PROMETHEUS_2_42_HISTOGRAMS, ExpositionFormat.OPENMETRICS),
        (PROMETHEUS_3, ExpositionFormat.OPENMETRICS),
        (PROMETHEUS_3_TEXT_ONLY, ExpositionFormat.TEXT),
        (PROMETHEUS_3_TEXT_FIRST, ExpositionFormat.TEXT),
        (FIREFOX, ExpositionFormat.TEXT),
        ("", ExpositionFormat.TEXT),
        ("*/*", ExpositionFormat.TEXT),
        ("text/plain", ExpositionFormat.TEXT),
        ("image/png", ExpositionFormat.TEXT),
        ("application/openmetrics-text", ExpositionFormat.OPENMETRICS),
        ("Application/OpenMetrics-Text ; Version=1.0.0", ExpositionFormat.OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', ExpositionFormat.OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", ExpositionFormat.TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=0", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.9", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=much", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=inf", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=nan", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=-1", ExpositionFormat.TEXT),
        (";;;,,;q=,=;", ExpositionFormat.TEXT),
    ],
)
def test_a_scrape_gets_the_form_that_it_prefers(accept: str, form: ExpositionFormat) -> None:
    assert negotiate(accept) is form


@given(st.text())
def test_any_header_has_an_answer(accept: str) -> None:
    assert negotiate(accept) in ExpositionFormat
