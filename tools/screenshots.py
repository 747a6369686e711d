"""Takes screenshots of dashboards and of an incident of a running stack, for README and docs: PNG, at most 300 KB each.

python tools/screenshots.py http://127.0.0.1:9095 docs/pictures fleetmedic-fleet inc-5705e1e33d ...
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MOST = 300_000
WIDTH, HEIGHT = 1280, 1250
# The pictures of an incident: suffix, width, colours.
INCIDENT = (("", WIDTH, "light"), ("-dark", WIDTH, "dark"), ("-phone", 390, "light"))


def main(address: str, folder: Path, names: list[str]) -> int:
    """Take the screenshots of each dashboard UID or incident id.

    Returns exit code 1 if one is too large or Chromium is missing.
    """
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        print(
            "chromium is not on PATH. Install it: `apt-get install --no-install-recommends chromium`."
        )
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--no-sandbox"] if os.geteuid() == 0 else []  # the sandbox does not start as root
    taken: list[Path] = []
    with sync_playwright() as start:
        browser = start.chromium.launch(executable_path=program, args=words)
        for name in names:
            take = incident if name.startswith("inc-") else dashboard
            taken += take(browser, address, folder, name)
        browser.close()
    for path in taken:
        print(f"{path}: {path.stat().st_size / 1000:.0f} KB")
    return int(any(path.stat().st_size > MOST for path in taken))


def dashboard(browser: Browser, address: str, folder: Path, uid: str) -> list[Path]:
    """Take one screenshot of a dashboard when all its panels are drawn."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark")
    page.goto(f"{address}/dashboards/{uid}?from=now-15m&refresh=")
    page.wait_for_selector("html[data-drawn]:not([data-drawn=''])", state="attached")
    path = folder / f"{uid.removeprefix('fleetmedic-')}.png"
    page.screenshot(path=path)
    return [path]


def incident(browser: Browser, address: str, folder: Path, identity: str) -> list[Path]:
    """Take screenshots of an incident's page on a desktop, in dark mode and on a phone."""
    taken = []
    for suffix, width, colours in INCIDENT:
        page = browser.new_page(
            viewport={"width": width, "height": HEIGHT},
            color_scheme="dark" if colours == "dark" else "light",
        )
        page.goto(f"{address}/incidents/{identity}")
        taken.append(folder / f"incident{suffix}.png")
        page.screenshot(path=taken[-1])
    return taken


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1].rstrip("/"), Path(sys.argv[2]), sys.argv[3:]))
