"""`python -m every_alert`: run every story, print the results, and write the page.

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
    """Return 0 if every story raised its alerts and no alert fired in the healthy fleet."""
    options = argparse.ArgumentParser(prog="every_alert", description=__doc__)
    options.add_argument(
        "--limit", type=float, default=300.0, help="time limit of the stories in seconds"
    )
    options.add_argument("--keep", type=Path, help="new folder for all files; it is kept")
    options.add_argument(
        "--prometheus", default="prometheus", help="Prometheus to use, for example prometheus-3"
    )
    options.add_argument(
        "--alertmanager",
        default="alertmanager",
        help="Alertmanager to use, for example alertmanager-0.33",
    )
    options.add_argument("--no-record", action="store_true", help="do not write record and page")
    given = options.parse_args()
    began = time.time()

    def tell(text: str) -> None:
        print(f"{time.time() - began:6.1f}  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="every-alert-") as own:
        folder = given.keep or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        tell(f"factors {', '.join(map(str, factors()))}; all files are in {folder}")
        programs = Programs.found(given.prometheus, given.alertmanager)
        with running(folder, factors(), programs) as fleet:
            outcome = run(fleet, STORIES, given.limit, tell)
            for error in fleet.broken:
                tell(f"the fleet failed: {type(error).__name__}: {error}")
            for line in explain(fleet, STORIES, outcome):
                tell(line)
            broken = bool(fleet.broken)
    show(outcome)
    if outcome.skipped and not given.no_record:
        print("nothing is recorded, because some stories were skipped")
    elif not given.no_record:
        write(outcome, {"prometheus": given.prometheus, "alertmanager": given.alertmanager})
    noisy = any(names for state, names in outcome.well.items() if state.startswith("firing"))
    return int(bool(outcome.missing) or noisy or broken)


def show(outcome: Outcome) -> None:
    """Print the results."""
    print(f"\n{len(outcome.took)} of {len(alerts())} alerts raised in {outcome.seconds:.0f} s")
    for title, found in (
        ("not raised", outcome.missing), ("skipped", outcome.skipped | EXCEPTIONS),
        ("while the fleet was healthy", outcome.well), ("other alerts raised", outcome.others),
    ):  # fmt: skip
        print(f"{title}:")
        for name, why in found.items():
            print(f"  {name}: {why if isinstance(why, str) else ', '.join(why) or 'nothing'}")


def write(outcome: Outcome, used: dict[str, str]) -> None:
    """Write the record of the run, and the page."""
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
