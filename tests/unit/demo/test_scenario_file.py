"""A scenario file changes what it names, and a bad one is a sentence with the place."""

from pathlib import Path

import pytest

from fleetmedic.demo.scenario import plan
from fleetmedic.demo.scenario_file import load_scenario
from fleetmedic.kernel.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "scenario.yml"
    path.write_text(text)
    return path


def test_what_is_left_out_follows_from_the_seed(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, "seed: 7\nspeed: 0.8\nlost_rank: 2\n"))
    assert (scenario.speed, scenario.lost_rank) == (0.8, 2)
    assert scenario.xid == plan(7).xid
    assert scenario.lost_at == plan(7).lost_at


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("speed: 2\n", "$.speed"),
        ("xid_count: many\n", "$.xid_count"),
        ("colour: red\n", "colour"),
        ("lost_at: [1\n", "scenario.yml:"),
    ],
)
def test_a_bad_file_is_one_sentence_with_the_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(UserError, match=r"scenario\.yml") as error:
        load_scenario(write(tmp_path, text))
    assert place in str(error.value)
    assert "\n" not in str(error.value)


def test_the_page_names_every_key_of_the_file() -> None:
    page = (Path(__file__).parents[3] / "docs" / "demo.md").read_text()
    from fleetmedic.demo.scenario_file import ScenarioFile

    assert all(f"\n{key}: " in page for key in ScenarioFile.__struct_fields__)
