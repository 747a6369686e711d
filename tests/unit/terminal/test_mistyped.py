"""A mistyped command or an option at the wrong place is an error that says what to type."""

from __future__ import annotations

import click
import pytest

from fleetmedic.cli import cli
from fleetmedic.terminal.mistyped import advice, without_guess


def said(*words: str) -> str:
    """The sentence that is added to the usage error of this command line, or click's own question."""
    with pytest.raises(click.UsageError) as error:
        cli.main(list(words), prog_name="fleetmedic", standalone_mode=False)
    return advice(error.value, words) or error.value.format_message()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("incident", "fleetmedic incidents"),
        ("relaese node1", "fleetmedic release"),
        ("status", "fleetmedic up status"),
        ("statsu", "fleetmedic up status"),
        ("stop", "fleetmedic up down"),
        ("start", "fleetmedic up"),
        ("rules lnt", "fleetmedic rules lint"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(
    words: str, command: str
) -> None:
    assert said(*words.split()) == f"Did you mean `{command}`?"


def test_a_name_of_several_commands_is_answered_with_all_of_them() -> None:
    assert said("logs") == "Did you mean `fleetmedic up logs` or `fleetmedic jobs logs`?"
    assert said("heal-everything") == "No such command 'heal-everything'."


@pytest.mark.parametrize("words", ["up bogus", "rules x", "zzzz"])
def test_a_command_that_resembles_none_is_answered_without_a_guess(words: str) -> None:
    with pytest.raises(click.UsageError) as error:
        cli.main(words.split(), prog_name="fleetmedic", standalone_mode=False)
    without_guess(error.value)
    name = words.split()[-1]
    assert error.value.format_message() == f"No such command '{name}'."
    assert advice(error.value, words.split()) == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("up --port-base 65000x", "'65000x' is not a valid integer."),
        ("up --time-factor fast", "'fast' is not a valid number."),
        ("up --nodes 0", "0 is not in the range 1<=x<=64."),
        ("up status --state-dir=", "expected a directory, got an empty string."),
    ],
)
def test_an_invalid_value_of_an_option_is_explained(words: str, sentence: str) -> None:
    assert sentence in said(*words.split())


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("--port-base 19090 up status",
         "Write the option after the command: `fleetmedic up --port-base 19090 status`."),
        ("--port-base=19090 why node1",
         "Write the option after the command: `fleetmedic why --port-base=19090 node1`."),
        ("up --follow logs rules",
         "Write the option after the command: `fleetmedic up logs --follow rules`."),
        ("--state-dir /x",
         "Write the option after a command, such as `fleetmedic doctor --state-dir`."),
        ("up status --nodes 3", "--nodes is an option of `fleetmedic up`."),
        ("--nope up", "No such option '--nope'."),
    ],
)  # fmt: skip
def test_an_option_at_the_wrong_place_is_answered_with_its_place(words: str, place: str) -> None:
    assert said(*words.split()) == place
