"""Tests the detectors on simulated history: whether they report the slow GPU, and no healthy GPU.

    python bench/detectors.py [--seeds 20]

Each seed is a different fleet (GPUs, jobs, day). The model is fitted on one healthy day, then tested on a
second day: once with one GPU that runs at 70 to 88 % of its clock from a random time on, and once
without. Exit code 1 if a slow GPU is missed, another GPU is reported, or a healthy day raises an alert.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import uuid

import numpy as np

from fleetmedic.hardware.state import GpuState
from fleetmedic.stack.history import GeneratedSeries, PastFault, PastGpu, generate_series, schedule
from rules.detectors.base import Detector, FitParameters, History, Model, Query, Refusal
from rules.detectors.calibrate import alerts
from rules.detectors.gpu_covariance import WAIT, CovarianceModel, GpuCovariance, SensorData
from rules.detectors.peer_band import FLOOR_Z, MIN_GAP, PeerBand, PeerModel, deviations
from rules.detectors.peer_band import WAIT as PEER_WAIT
from rules.detectors.peer_band import WINDOW as PEER_WINDOW
from rules.series import Grid, Key, Series, rolling_min
from rules.timing import Timing

STEP = 60.0
TIMING = Timing(1.0)
START = 1_700_000_000.0


def make_fleet(seed: int, nodes: int = 2, gpus: int = 8) -> list[PastGpu]:
    """GPUs with UUIDs that are unique to the seed."""
    return [
        PastGpu(f"node{node}", index, GpuState(f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{seed}/{node}/{index}')}", "", ""))
        for node in range(1, nodes + 1)
        for index in range(gpus)
    ]  # fmt: skip


def as_history(found: list[GeneratedSeries], queries: tuple[Query, ...], grid: Grid) -> History:
    """The tracks on the grid, one Series per query."""
    out = {}
    for query in queries:
        family, _, matcher = query.selector.rstrip("}").partition("{")
        wanted = tuple(part.strip('"') for part in matcher.split("=")) if matcher else ()
        mine = [
            (track.labels, track.points)
            for track in found
            if track.family == family and (not wanted or track.labels.get(wanted[0]) == wanted[1])
        ]
        out[query.name] = Series.gather(query.labels, mine, grid)
    return out


def one_day(
    seed: int, day: int, fault: bool, hours: float = 24.0, nodes: int = 2
) -> tuple[list[GeneratedSeries], Grid, PastFault | None]:
    """One simulated day, with a fault if requested."""
    chance = random.Random(1000 * seed + day)
    gpus = make_fleet(seed, nodes)
    begin = START + 86_400 * day
    grid = Grid(begin, STEP, int(hours * 3600 / STEP))
    jobs = schedule(gpus, begin, grid.end, seed=1000 * seed + day)
    times = [begin + STEP * n for n in range(grid.count)]
    slow = None
    if fault:
        long = [job for job in jobs if job.end - job.begin > 3600]
        job = chance.choice(long)
        at = chance.uniform(job.begin, job.end - 1800)
        slow = PastFault(
            job.node, chance.choice(job.gpus), at, at + 7200, chance.uniform(0.70, 0.88)
        )
    return generate_series(gpus, jobs, times, (slow,) if slow else ()), grid, slow


def named_by_peers(model: PeerModel, history: History) -> set[Key]:
    """The GPUs for which GpuPeerOutlier would fire."""
    grid = next(iter(history.values())).grid
    held, out = grid.samples(PEER_WAIT), set()
    for band in deviations(history, grid.samples(PEER_WINDOW), model.spread):
        lag, gap = rolling_min(-band.z, held), rolling_min(band.gap, held)
        fires = ((lag >= max(model.threshold, FLOOR_Z)) & (gap >= MIN_GAP)).any(axis=1)
        out |= {band.gpus[row] for row in np.flatnonzero(fires)}
    return out


def named_by_model(model: CovarianceModel, history: History) -> set[Key]:
    """The GPUs for which GpuAnomalyScoreHigh would fire."""
    sensors = SensorData.of(history)
    held = rolling_min(model.distances(sensors), history["utilization"].grid.samples(WAIT))
    found = zip(sensors.gpus, held, strict=True)
    return {key for key, row in found if alerts(row[None], model.threshold)}


def fitted(detector: Detector, history: History, budget: float) -> Model:
    """The fitted model; exits if the detector refuses."""
    found = detector.fit(history, FitParameters(TIMING, budget))
    if isinstance(found, Refusal):
        sys.exit(f"{detector.name} refused: {found.reason}")
    return found


def judge(seed: int, hours: float = 24.0, nodes: int = 2) -> dict[str, object]:
    """One seed: fit on a healthy day, test a day with a slow GPU and a day without."""
    peers, learned = PeerBand(), GpuCovariance()
    queries = (*peers.queries, *learned.queries)
    found, grid, _ = one_day(seed, 0, False, hours, nodes)
    healthy = as_history(found, queries, grid)
    began = time.perf_counter()
    band = fitted(peers, healthy, 0.1)
    between = time.perf_counter()
    model = fitted(learned, healthy, 1.0)
    after = time.perf_counter()
    assert isinstance(band, PeerModel)
    assert isinstance(model, CovarianceModel)
    row: dict[str, object] = {
        "seed": seed, "z": band.threshold, "spread": band.spread, "score": model.threshold,
        "fit_s": f"{between - began:.2f}+{after - between:.2f}",
    }  # fmt: skip
    for fault in (True, False):
        found, grid, slow = one_day(seed, 1, fault, hours, nodes)
        history = as_history(found, queries, grid)
        for name, gpus in (
            ("peers", named_by_peers(band, history)),
            ("model", named_by_model(model, history)),
        ):
            wanted = {(slow.node, str(slow.index))} if slow else set()
            got = {(key[1], key[2]) for key in gpus}
            row[f"{name}_{'slow' if fault else 'healthy'}"] = (
                "ok" if got == wanted else f"wrong {sorted(got)}"
            )
        if slow:
            row["speed"] = f"{slow.speed:.2f}"
    return row


def main() -> int:
    """Print the table; exit code 1 if the peer band is wrong for any seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    columns = ("seed", "speed", "z", "spread", "score", "fit_s", "peers_slow", "peers_healthy", "model_slow", "model_healthy")  # fmt: skip
    print("  ".join(f"{column:>13}" for column in columns))
    rows = []
    for seed in range(1, seeds + 1):
        rows.append(judge(seed))
        print("  ".join(f"{rows[-1][column]!s:>13}" for column in columns), flush=True)
    good = {column: sum(row[column] == "ok" for row in rows) for column in columns if "_" in column}
    print(
        f"peer band: {good['peers_slow']}/{seeds} slow GPUs detected without false alerts, "
        f"{good['peers_healthy']}/{seeds} healthy days without alerts; "
        f"model: {good['model_slow']}/{seeds} and {good['model_healthy']}/{seeds}"
    )
    return 0 if good["peers_slow"] == good["peers_healthy"] == seeds else 1


if __name__ == "__main__":
    sys.exit(main())
