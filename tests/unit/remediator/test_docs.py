"""The remediator's pages follow the code."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import msgspec
import pytest
import yaml

from remediator import playbook_library
from remediator.core.events import Kind
from remediator.discovery.hosts import Host, HostsFile, read_hosts
from remediator.playbook_library import load_library, read_playbook

DOCS = Path(__file__).resolve().parents[3] / "docs"


def _examples(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_page_of_the_lifecycle_is_drawn_from_the_table() -> None:
    drawn = runpy.run_path(str(DOCS / "src" / "lifecycle.py"))["page"]()
    assert drawn == (DOCS / "lifecycle.md").read_text(), "python docs/src/lifecycle.py writes it"


def test_the_example_playbook_is_a_playbook(tmp_path) -> None:
    example = next(text for text in _examples("configuration.md") if text.startswith("playbook:"))
    (tmp_path / "x.yml").write_text(example)
    assert read_playbook(tmp_path / "x.yml").name == "gpu-lost"


def test_the_example_settings_are_settings() -> None:
    from fleetmedic.kernel.settings import convert
    from remediator.settings import FileSettings

    example = next(text for text in _examples("configuration.md") if "webhook_token_file" in text)
    convert(yaml.safe_load(example), FileSettings, "example")


def test_the_example_of_a_host_list_is_one_and_every_key_is_explained(tmp_path) -> None:
    example = next(text for text in _examples("discovery.md") if "hosts:\n" in text)
    (tmp_path / "hosts.yml").write_text(example)
    found = read_hosts(tmp_path / "hosts.yml", "other")
    assert (len(found), found[0].node, found[-1].cluster) == (146, "gpu001", "lab")
    text = (DOCS / "discovery.md").read_text()
    keys = {f"`hosts[].{name}`" for name in Host.__struct_encode_fields__}
    keys |= {f"`{name}`" for name in HostsFile.__struct_encode_fields__}
    assert {key for key in keys if key not in text} == set()


PARTS = {
    "": playbook_library.PlaybookFile, "match.": playbook_library.MatchFile, "jobs.": playbook_library.JobsFile,
    "ladder[].": playbook_library.RungFile, "verify.": playbook_library.VerifyFile,
    "readmit.": playbook_library.ReadmitFile, "scale.": playbook_library.ScaleFile,
}  # fmt: skip


@pytest.mark.parametrize("prefix", PARTS)
def test_every_key_of_a_playbook_is_documented(prefix) -> None:
    text = (DOCS / "configuration.md").read_text()
    keys = {field.encode_name for field in msgspec.structs.fields(PARTS[prefix])}
    whole = {"jobs", "ladder", "verify", "readmit", "scale", "match"} if not prefix else set()
    assert set() == {key for key in keys - whole if f"`{prefix}{key}`" not in text}


def test_every_shipped_playbook_and_its_alerts_are_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    for playbook in load_library(()):
        assert f"`{playbook.name}`" in text
        assert all(name in text for name in playbook.alertnames)


def test_every_kind_of_event_is_documented() -> None:
    text = (DOCS / "remediator.md").read_text()
    assert set() == {str(kind) for kind in Kind if str(kind) not in text}
