"""`exporter` and `rules` are common names: refuse to start over another distribution's files."""

from __future__ import annotations

from importlib.metadata import packages_distributions

from fleetmedic.kernel.errors import UserError


def require_sole_owner(package: str, owners: dict[str, list[str]] | None = None) -> None:
    """Raise UserError when another installed distribution also owns a package of this name."""
    found = packages_distributions() if owners is None else owners
    others = sorted(set(found.get(package, ())) - {"fleetmedic"})
    if others:
        raise UserError(
            f"the package {package!r} also belongs to {', '.join(others)}, which may have overwritten "
            "files of ours: install fleetmedic into an environment of its own."
        )
