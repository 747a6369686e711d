"""A page joins its fragments: complete in each format, and compressed as one gzip member."""

import gzip
import math
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.catalogue import Catalogue, Metric, MetricType, catalogue
from exporter.exposition import MAX_VALUE, Family, Renderer, Sample, SeriesSchema
from exporter.pages.openmetrics import ExpositionFormat
from exporter.pages.page import Fragment, Page

HELP = 'A "help" with a \\ and\na second line.'


def metric(name: str, kind: MetricType, *labels: str) -> Metric:
    return Metric(name, kind, "none", labels, "test", "exporter", HELP)


FAMILIES = Catalogue(
    (
        metric("odd_info", "gauge", "first", "second"),
        metric("odd_events_total", "counter", "first", "second"),
        metric("odd_misnamed", "counter", "first", "second"),
        metric("odd_anything", "untyped", "first", "second"),
    )
)
VALUES = st.one_of(st.floats(), st.integers(), st.integers(-(10**400), 10**400), st.booleans())
# Any Python string, including lone surrogates, and often characters that need escaping.
TEXTS = st.text(st.one_of(st.sampled_from('\\"\n\r\t\0{}=,# é\ud800'), st.characters()))


def fragment(*samples: Sample) -> Fragment:
    return Fragment(Renderer(FAMILIES).render(samples))


def readable(value: str) -> str:
    """A label value as exported: truncated, and without invalid characters."""
    cut = value[:MAX_VALUE].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut.replace("\0", "\ufffd")


def read(page: bytes, form: ExpositionFormat) -> dict[tuple[str, str, str], float]:
    parse = (
        text_string_to_metric_families
        if form is ExpositionFormat.TEXT
        else openmetrics.text_string_to_metric_families
    )
    renamed = {
        "odd_misnamed_total": "odd_misnamed"
    }  # this parser removes _total from every counter
    return {
        (
            renamed.get(sample.name, sample.name),
            sample.labels["first"],
            sample.labels["second"],
        ): nearly(sample.value)
        for family in parse(page.decode())
        for sample in family.samples
    }


def nearly(value: float) -> float:
    """The float that a parser reads for a number."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@pytest.mark.parametrize("form", ExpositionFormat)
@settings(max_examples=80, deadline=None)
@given(
    given=st.dictionaries(
        st.tuples(st.sampled_from([m.name for m in FAMILIES]), TEXTS, TEXTS), VALUES, max_size=8
    )
)
def test_what_went_in_comes_out_of_a_parser(
    form: ExpositionFormat, given: dict[tuple[str, str, str], float]
) -> None:
    if form is ExpositionFormat.OPENMETRICS:  # the parser rejects negative and NaN counters
        given = {
            key: value
            for key, value in given.items()
            if not key[0].endswith("_total") or nearly(value) >= 0
        }
    samples = [
        Sample(name, (first, second), value) for (name, first, second), value in given.items()
    ]
    page = Page([fragment(*samples)]).body(form, gzip=False)
    expected: dict[tuple[str, str, str], float] = {}
    for (name, first, second), value in given.items():
        expected.setdefault((name, readable(first), readable(second)), nearly(value))
    found = read(page, form)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == value or (math.isnan(found[key]) and math.isnan(value))


ONE = fragment(Sample("odd_info", ("a", "b"), 1))
TWO = fragment(Sample("odd_events_total", ("a", "b"), 2), Sample("odd_misnamed", ("a", "b"), 3))


def test_the_text_form_is_the_fragments_one_behind_the_other() -> None:
    told = 'A "help" with a \\\\ and\\na second line.'
    assert Page([ONE, TWO]).text.decode().splitlines() == [
        f"# HELP odd_info {told}",
        "# TYPE odd_info gauge",
        'odd_info{first="a",second="b"} 1',
        f"# HELP odd_events_total {told}",
        "# TYPE odd_events_total counter",
        'odd_events_total{first="a",second="b"} 2',
        f"# HELP odd_misnamed {told}",
        "# TYPE odd_misnamed counter",
        'odd_misnamed{first="a",second="b"} 3',
    ]


def test_openmetrics_names_a_counter_without_total_and_a_misnamed_one_unknown() -> None:
    told = 'A \\"help\\" with a \\\\ and\\na second line.'
    body = Page([ONE, TWO]).body(ExpositionFormat.OPENMETRICS, gzip=False)
    assert body.decode().splitlines() == [
        f"# HELP odd_info {told}",
        "# TYPE odd_info gauge",
        'odd_info{first="a",second="b"} 1',
        f"# HELP odd_events {told}",
        "# TYPE odd_events counter",
        'odd_events_total{first="a",second="b"} 2',
        f"# HELP odd_misnamed {told}",
        "# TYPE odd_misnamed unknown",
        'odd_misnamed{first="a",second="b"} 3',
        "# EOF",
    ]


@pytest.mark.parametrize("form", ExpositionFormat)
@pytest.mark.parametrize("fragments", [[], [ONE], [Fragment(), ONE, Fragment(), TWO], [ONE] * 50])
def test_the_compressed_page_is_one_member_that_every_reader_reads(
    form: ExpositionFormat, fragments: list[Fragment]
) -> None:
    page = Page(fragments)
    packed, plain = page.body(form, gzip=True), page.body(form, gzip=False)
    reader = zlib.decompressobj(31)
    assert reader.decompress(packed) == plain
    assert reader.eof
    assert reader.unused_data == b""
    assert gzip.decompress(packed) == plain


def test_a_fragment_is_compressed_once_for_all_pages() -> None:
    assert ONE.packed(ExpositionFormat.TEXT) is ONE.packed(ExpositionFormat.TEXT)
    assert Page([ONE, TWO]).body(ExpositionFormat.TEXT, gzip=True) != Page([TWO]).body(
        ExpositionFormat.TEXT, gzip=True
    )


def test_a_page_that_was_prepared_is_the_same_page() -> None:
    prepared = Page([ONE, TWO])
    prepared.prepare(ExpositionFormat.OPENMETRICS, gzip=True)
    fresh = Page([ONE, TWO])
    assert prepared.body(ExpositionFormat.OPENMETRICS, gzip=True) == fresh.body(
        ExpositionFormat.OPENMETRICS, gzip=True
    )


def test_a_page_of_nothing_is_false() -> None:
    assert not Page([Fragment()])
    assert Page([Fragment(), ONE])


def test_what_others_wrote_is_shown_as_they_describe_it() -> None:
    family = Family("site_queue_seconds", "histogram", "Theirs.")
    foreign = {
        "site_queue_seconds_bucket": SeriesSchema(family, ("le",)),
        "site_queue_seconds_sum": SeriesSchema(family, ()),
        "site_queue_seconds_count": SeriesSchema(family, ()),
    }
    samples = [
        Sample("site_queue_seconds_bucket", ("1.0",), 2),
        Sample("site_queue_seconds_bucket", ("+Inf",), 3),
        Sample("site_queue_seconds_count", (), 3),
        Sample("site_queue_seconds_sum", (), 4.5),
    ]
    renderer = Renderer(FAMILIES)
    shown = Fragment(renderer.render(samples, foreign))
    assert shown.plain(ExpositionFormat.TEXT).decode().splitlines()[1:4] == [
        "# TYPE site_queue_seconds histogram",
        'site_queue_seconds_bucket{le="1.0"} 2',
        'site_queue_seconds_bucket{le="+Inf"} 3',
    ]
    other = {
        "site_queue_seconds_sum": SeriesSchema(Family("site_queue_seconds_sum", "gauge", "x"), ())
    }
    [block] = renderer.render([Sample("site_queue_seconds_sum", (), 1)], other)
    assert block.family.type == "gauge", "the meaning of a name may change between renders"


def test_a_histogram_of_the_catalogue_has_its_bound_as_last_label() -> None:
    [block] = Renderer(catalogue()).render(
        [Sample("remediator_stage_seconds_bucket", ("observe", "0.5"), 1)]
    )
    assert block.lines == 'remediator_stage_seconds_bucket{stage="observe",le="0.5"} 1\n'
    assert block.family.name == "remediator_stage_seconds"
