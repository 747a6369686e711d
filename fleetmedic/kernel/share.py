"""Finds the data files that a process needs at run time.

In a checkout they lie where they are written; in an installed wheel, under `fleetmedic/_share`.
The checkout comes first: an editable install can leave a stale copy behind.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def share(relative: str) -> Path:
    """The path of a shipped file or folder, such as `alertmanager` or `docs/runbooks`.

    Raises FileNotFoundError when this installation carries none.
    """
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / relative).exists():
        return checkout / relative
    installed = _PACKAGE / "_share" / relative
    if installed.exists():
        return installed
    raise FileNotFoundError(f"this installation carries no {relative}")
