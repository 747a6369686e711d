"""Find the data files that a process needs at run time.

In a checkout they are in the source tree, in an installed wheel in `fleetmedic/_share`. The
checkout takes precedence, because an editable install can contain a stale copy.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def share(relative: str) -> Path:
    """Return the path of a data file or directory, such as `alertmanager` or `docs/runbooks`.

    Raises FileNotFoundError if this installation does not contain it.
    """
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / relative).exists():
        return checkout / relative
    installed = _PACKAGE / "_share" / relative
    if installed.exists():
        return installed
    raise FileNotFoundError(f"this installation of fleetmedic does not contain {relative}")
