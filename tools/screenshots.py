"""Takes screenshots of dashboards of a running stack, for the README: PNG, at most 300 KB each.

python tools/screenshots.py http://127.0.0.1:9095 docs/pictures fleetmedic-fleet ...
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

MOST = 300_000
WIDTH, HEIGHT = 1280, 1250


def main(address: str, folder: Path, uids: list[str]) -> int:
    """Take one screenshot of each dashboard; exit code 1 if one is too large or Chromium is missing."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        print(
            "chromium is not on PATH. Install it: `apt-get install --no-install-recommends chromium`."
        )
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--no-sandbox"] if os.geteuid() == 0 else []  # the sandbox does not start as root
    with sync_playwright() as start:
        browser = start.chromium.launch(executable_path=program, args=words)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark")
        for uid in uids:
            page.goto(f"{address}/dashboards/{uid}?from=now-15m&refresh=")
            page.wait_for_selector("html[data-drawn]:not([data-drawn=''])", state="attached")
            path = folder / f"{uid.removeprefix('fleetmedic-')}.png"
            page.screenshot(path=path)
            size = path.stat().st_size
            print(f"{path}: {size / 1000:.0f} KB")
            if size > MOST:
                return 1
        browser.close()
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1].rstrip("/"), Path(sys.argv[2]), sys.argv[3:]))
