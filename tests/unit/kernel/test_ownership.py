"""Common package names: another distribution's `rules` is found out before it is run."""

from __future__ import annotations

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.ownership import require_sole_owner


def test_ours_alone_is_fine() -> None:
    require_sole_owner("rules", {"rules": ["fleetmedic"]})
    require_sole_owner("rules", {"rules": ["fleetmedic", "fleetmedic"]})


def test_a_checkout_that_is_not_installed_is_fine() -> None:
    require_sole_owner("rules", {})


def test_another_owner_is_named_with_the_cure() -> None:
    with pytest.raises(UserError, match=r"'rules' also belongs to business-rules.*environment"):
        require_sole_owner("rules", {"rules": ["fleetmedic", "business-rules"]})


def test_this_environment_holds_no_other_owner() -> None:
    for package in ("exporter", "rules", "remediator"):
        require_sole_owner(package)
