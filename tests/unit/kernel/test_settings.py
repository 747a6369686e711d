"""A settings file is checked once; every error names the file and the line, or the path inside."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetmedic.kernel import settings
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import convert


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: int = 9095


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "local"
    web: Inner = Inner()
    urls: tuple[str, ...] = ()
    labels: dict[Annotated[str, msgspec.Meta(pattern="^[a-z]+$")], str] = {}


def _load(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "remediator.yml"
    path.write_text(text)
    return settings.load(path, Outer)


def test_a_good_file_becomes_the_struct(tmp_path: Path) -> None:
    assert _load(tmp_path, "name: a\nweb: {port: 1}\nurls: [x]\n") == Outer("a", Inner(1), ("x",))


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert _load(tmp_path, "# nothing yet\n") == Outer()


def test_a_wrong_type_names_the_file_and_the_path_inside_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"remediator\.yml: at \$\.web\.port: expected `int`"):
        _load(tmp_path, "web:\n  port: many\n")


def test_a_wrong_item_of_a_list_is_named_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at \$\.urls\[1\]"):
        _load(tmp_path, "urls: [a, 2]\n")


def test_a_wrong_key_of_a_mapping_is_named_with_the_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"remediator\.yml: at a key of \$\.labels: expected `str`"):
        _load(tmp_path, "labels: {a-b: x}\n")


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at \$\.web: .*unknown field `prot`"):
        _load(tmp_path, "web: {prot: 1}\n")


def test_broken_yaml_names_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"remediator\.yml:3:10: unexpected `:`"):
        _load(tmp_path, "name: a\nweb:\n  port: 1: 2\n")


def test_a_repeated_key_names_the_line_of_the_second(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"remediator\.yml:2:1: duplicate key 'name'"):
        _load(tmp_path, "name: a\nname: b\n")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("name: a\nurls: [*n]\n", r"2:\d+: anchors and aliases are not supported"),
        ("name: &n a\n", r"1:\d+: anchors and aliases are not supported"),
        ("<<: {name: a}\n", r"1:1: merge keys \(<<\) are not supported"),
        ("web: {<<: {port: 1}}\n", r"1:7: merge keys \(<<\) are not supported"),
    ],
)
def test_what_hides_a_value_is_refused_where_it_is_used(
    tmp_path: Path, text: str, error: str
) -> None:
    with pytest.raises(UserError, match=rf"remediator\.yml:{error}"):
        _load(tmp_path, text)


class _Kind(StrEnum):
    FAST = "fast"
    SLOW = "slow"


class _Row(msgspec.Struct):
    do: Literal["reset", "reboot"]
    kind: _Kind | None = None


class _Rows(msgspec.Struct):
    rows: tuple[_Row, ...] = ()
    by_name: dict[str, _Kind] = {}


@pytest.mark.parametrize(
    ("value", "end"),
    [
        (
            {"rows": [{"do": "x"}]},
            "at $.rows[0].do: invalid enum value 'x'; expected one of: reboot, reset.",
        ),
        (
            {"rows": [{"do": "reset", "kind": "Fast"}]},
            "at $.rows[0].kind: invalid enum value 'Fast'; expected one of: fast, slow.",
        ),
        (
            {"by_name": {"a": "x"}},
            "at $.by_name.a: invalid enum value 'x'; expected one of: fast, slow.",
        ),
    ],
)
def test_an_invalid_choice_is_followed_by_the_valid_ones(value: object, end: str) -> None:
    with pytest.raises(UserError) as refused:
        convert(value, _Rows, "x.yml")
    assert str(refused.value) == f"x.yml: {end}"


def test_a_second_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"remediator\.yml:2:1"):
        _load(tmp_path, "name: a\n---\nname: b\n")


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.yml: no such file"):
        settings.load(tmp_path / "gone.yml", Outer)


def test_a_folder_and_bytes_that_are_no_text_are_one_sentence_each(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"cannot be read: .*\. Check the file and its permissions\."
    ):
        settings.load(tmp_path, Outer)
    path = tmp_path / "remediator.yml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="the text is UTF-16"):
        settings.load(path, Outer)


def test_a_file_without_end_is_refused_without_reading_it_all() -> None:
    with pytest.raises(UserError, match="larger than"):
        settings.load(Path("/dev/zero"), Outer)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="larger than"):
        _load(tmp_path, "#" * (settings.MAX_BYTES + 1))


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        _load(tmp_path, "[" * 20_000)


def test_no_object_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        _load(tmp_path, "name: !!python/object/apply:os.getpid []\n")


@given(st.text(alphabet="!{}[]&*:-?|>'\"#%@,<=~ \nabintseolfupr0123456789\t", max_size=40))
@example("!!map [1, 2]")
@example("!!map foo")
@example("!!int ''")
@example("!!float ''")
@example("!!bool maybe")
@example("!!timestamp soon")
@example("!!set [1]")
@example("? [a]\n: 1")
@example("a: 2026-99-99")
@example("? {a: 1}\n: 1")
@example("<<: 1")
def test_any_text_is_a_value_or_a_user_error(text: str) -> None:
    problem = "file"
    try:
        settings.parse_yaml(text, "file")
    except UserError as error:
        problem = str(error)
    assert problem.startswith("file")


@pytest.mark.parametrize("text", ["{}: 1\n", "name: !{} 1\n", "? {}\n? {}\n", "name: !!int '{}'\n"])
def test_a_hostile_word_is_not_quoted_whole(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        _load(tmp_path, text.replace("{}", "k" * 900))
    assert len(str(caught.value)) < 600


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    size: int = 0


def _rows(tmp_path: Path, text: str) -> tuple[Row, ...]:
    path = tmp_path / "rows.yml"
    path.write_text(text)
    return settings.load_rows(path, "rows", Row)


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    text = "# about\nrows:\n- {name: a, size: 1}\n- name: b\n  size: 2\n"
    assert _rows(tmp_path, text) == (Row("a", 1), Row("b", 2))
    assert _rows(tmp_path, "rows: []") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rows:\n- {name: a}\n- {nam: b}\n", "at $.rows[1]"),
        ("rows:\n- {name: a}\n- {name: [}\n", "rows.yml:3:"),
        ("rows:\n- \x07\n", "the character #x0007 is not allowed"),
        ("rows:\n- {name: !!int x}\n", "invalid value"),
        (f"rows:\n- {'[' * 5000}\n", "nested too deeply"),
        ("rows:\n- &x {name: a}\n- *x\n", "anchors and aliases are not supported"),
        ("rows:\n- {name: a, name: b}\n", "duplicate key"),
        ("other:\n- {name: a}\n", "one key, 'rows'"),
        ("- {name: a}\n", "one key, 'rows'"),
        ("rows: 7\n", "one key, 'rows'"),
        ("", "one key, 'rows'"),
    ],
)
def test_rows_that_cannot_be_are_one_sentence(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        _rows(tmp_path, text)
    assert problem in str(caught.value)
    assert "rows.yml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\n---\nname: b\n", "2:1: the file contains more than one document. Remove"),
        ("name: " + "[" * 5000, "lists or mappings are nested too deeply. Reduce the nesting"),
        ("name: !foo x", "1:7: the tag '!foo' is not supported. Remove it"),
        ("name: =", "1:7: the value `=` is not supported. Put it in quotes"),
        ("? [a]\n: b", "1:3: a key is a list or a mapping. Use text as key"),
        ("name: [a", "the file ends inside a value. Close the bracket or quote"),
        ("name: 'a", "the file ends inside a value. Close the bracket or quote"),
        ("web:\n\tport: 1", "a tab cannot start a value. Indent with spaces"),
        ("name: @a", "1:7: the character '@' cannot start a value. Put the value in quotes"),
        ("name: a: b", "unexpected `:`. Put a value with `: ` in quotes"),
        ("- a\nname: b", "the indentation is wrong, or a list and a mapping are mixed"),
        ("name: a\x07", "the character #x0007 is not allowed. Remove it"),
        ("name: 2020-13-45", "invalid value: month must be in 1..12"),
    ],
)
def test_an_error_of_the_yaml_says_what_to_do_without_words_of_the_parser(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(UserError) as caught:
        _load(tmp_path, text)
    said = str(caught.value)
    assert problem in said
    assert "\n" not in said
    for word in ("but found", "constructor", "unhashable", "recursion", "token", "stream end"):
        assert word not in said


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("name: gr\xfc\xdf".encode("latin-1"), "the text is not UTF-8. Save the file as UTF-8"),
        ("name: a".encode("utf-16"), "the text is UTF-16. Save the file as UTF-8"),
    ],
)
def test_a_file_in_another_encoding_is_no_matter_of_permissions(
    tmp_path: Path, body: bytes, problem: str
) -> None:
    path = tmp_path / "remediator.yml"
    path.write_bytes(body)
    with pytest.raises(UserError) as caught:
        settings.load(path, Outer)
    assert problem in str(caught.value)
    assert "ermission" not in str(caught.value)


def test_a_character_that_the_size_limit_cuts_is_no_matter_of_encoding(tmp_path: Path) -> None:
    path = tmp_path / "remediator.yml"
    path.write_text("#" + "\u20ac" * settings.MAX_BYTES)
    with pytest.raises(UserError, match="larger than 1000000 bytes"):
        settings.load(path, Outer)


@pytest.mark.parametrize(
    ("written", "number"), [("1e9", "1000000000"), ("'7'", "7"), ("1e-3", "0.001")]
)
def test_a_number_that_yaml_reads_as_text_is_shown_as_a_number(
    tmp_path: Path, written: str, number: str
) -> None:
    with pytest.raises(UserError) as caught:
        _load(tmp_path, f"web:\n  port: {written}\n")
    assert f"got `str`. Write {written.strip(chr(39))} as {number} and without quotes." in str(
        caught.value
    )
