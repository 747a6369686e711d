"""Which clusters there are, and what is said about settings that fit none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from remediator.clusters.base import Capability, implemented
from remediator.clusters.local import LocalClusterAdapter
from remediator.clusters.memory import MemoryCluster
from remediator.clusters.registry import ADAPTERS, open_cluster


def test_a_cluster_is_made_of_its_settings(tmp_path: Path) -> None:
    cluster = open_cluster("local", "lab", {"cluster_dir": str(tmp_path / "c")}, "remediator.yml")
    assert cluster.name == "lab"


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    open_cluster("local", "lab", {"cluster_dir": str(tmp_path / "c")}, "remediator.yml")
    assert not (tmp_path / "c").exists()


def test_no_settings_are_enough_where_all_have_defaults() -> None:
    assert open_cluster("memory", "toy", None, "remediator.yml").name == "toy"


def test_an_unknown_adapter_names_those_there_are() -> None:
    with pytest.raises(
        UserError, match=r"remediator\.yml: at \$\.cluster\.adapter: .*local, memory"
    ):
        open_cluster("nomad", "x", {}, "remediator.yml")


def test_an_unknown_setting_names_its_place() -> None:
    with pytest.raises(UserError, match=r"remediator\.yml, cluster\.memory: at \$: .*shelves"):
        open_cluster("memory", "x", {"shelves": 3}, "remediator.yml")


def test_every_adapter_has_a_page_heading() -> None:
    page = (Path(__file__).parents[4] / "docs" / "clusters.md").read_text()
    assert all(f"## {name}" in page.lower() for name in ADAPTERS.names())


@pytest.mark.parametrize("capability", list(Capability))
def test_the_table_says_which_adapters_have_a_capability(capability: Capability) -> None:
    page = (Path(__file__).parents[4] / "docs" / "clusters.md").read_text()
    row = next((one for one in page.splitlines() if one.startswith(f"| `{capability}` |")), "")
    assert row, f"docs/clusters.md: add a row for the capability {capability}"
    _, _, simulated, _, memory = (cell.strip() == "yes" for cell in row.strip("|").split("|"))
    has = [capability in implemented(one) for one in (LocalClusterAdapter, MemoryCluster)]
    assert [simulated, memory] == has
