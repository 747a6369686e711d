"""`python -m every_alert`: run every story, print what came of it, and write the page anew.

PYTHONPATH=tests/scenarios python -m every_alert [--limit SECONDS] [--keep FOLDER] [--no-record]
                                                  [--prometheus prometheus-3] [--alertmanager alertmanager-0.33]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from every_alert import page
from every_alert.fleet import running
from every_alert.index import EXCEPTIONS, STORIES, alerts, factors
from every_alert.processes import Programs
from every_alert.run import Outcome, explain, run
from fleetmedic.stack import binaries


def main() -> int:
    """0 when every story raised what it must and the healthy fleet was quiet."""
    options = argparse.ArgumentParser(prog="every_alert", description=__doc__)
    options.add_argument("--limit", type=float, default=300.0, help="seconds that the stories get")
    options.add_argument("--keep", type=Path, help="a new folder for everything, which is kept")
    options.add_argument("--prometheus", default="prometheus", help="such as prometheus-3")
    options.add_argument("--alertmanager", default="alertmanager", help="such as alertmanager-0.33")
    options.add_argument("--no-record", action="store_true", help="leave record and page alone")
    given = options.parse_args()
    began = time.time()

    def tell(text: str) -> None:
        print(f"{time.time() - began:6.1f}  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="every-alert-") as own:
        folder = given.keep or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        tell(f"factors {', '.join(map(str, factors()))}; everything is in {folder}")
        programs = Programs.found(given.prometheus, given.alertmanager)
        with running(folder, factors(), programs) as fleet:
            outcome = run(fleet, STORIES, given.limit, tell)
            for error in fleet.broken:
                tell(f"the fleet itself broke: {type(error).__name__}: {error}")
            for line in explain(fleet, STORIES, outcome):
                tell(line)
            broken = bool(fleet.broken)
    show(outcome)
    if outcome.skipped and not given.no_record:
        print("nothing is recorded: some stories could not be told here")
    elif not given.no_record:
        write(outcome, {"prometheus": given.prometheus, "alertmanager": given.alertmanager})
    noisy = any(names for state, names in outcome.well.items() if state.startswith("firing"))
    return int(bool(outcome.missing) or noisy or broken)


def show(outcome: Outcome) -> None:
    """What came of it, for people."""
    print(f"\n{len(outcome.took)} of {len(alerts())} alerts raised in {outcome.seconds:.0f} s")
    for title, found in (
        ("not raised", outcome.missing), ("not tried", outcome.skipped | EXCEPTIONS),
        ("while the fleet was well", outcome.well), ("raised besides", outcome.others),
    ):  # fmt: skip
        print(f"{title}:")
        for name, why in found.items():
            print(f"  {name}: {why if isinstance(why, str) else ', '.join(why) or 'nothing'}")


def write(outcome: Outcome, used: dict[str, str]) -> None:
    """Record the run, and the page made of it."""
    programs = {}
    for name, part in used.items():
        path = binaries.find(part)
        assert path is not None, name
        number = binaries.version(path).rpartition(" ")[2]
        programs[name] = f"{name.capitalize()} {number.partition('+')[0]}"
    kept = {key: value for key, value in asdict(outcome).items() if key != "began"}
    kept["took"] = {name: round(seconds, 1) for name, seconds in outcome.took.items()}
    kept["seconds"] = round(outcome.seconds)
    version = programs["prometheus"].rpartition(" ")[2]
    page.record_path(version).write_text(
        json.dumps(kept | programs, indent=1, sort_keys=True) + "\n"
    )
    page.PAGE.write_text(page.markdown(page.records()))


if __name__ == "__main__":
    sys.exit(main())
