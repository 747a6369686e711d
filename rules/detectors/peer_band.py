"""Compares a GPU with its peers: busy GPUs of the same job and product run at about the same clock.

A fail-slow GPU raises no error. It is visible only in comparison with the other GPUs of a synchronous
job. Different products have different clocks. So for every job with at least four busy GPUs of one
product, the SM clock of each GPU is compared with the median of these GPUs, in units of the robust
spread (1.4826 x median absolute deviation). A GPU is an outlier if, for the whole `for` duration, it is
at least 10 % slower (smaller differences are common and cost little) and deviates more than the learned
threshold. The test is one-sided: fast GPUs are healthy.

With two or three GPUs |z| cannot exceed a meaningful threshold, hence four. If more than 30 % of a
job's GPUs are outliers at the same time, they have a common cause (a power cap, another role in a
pipeline), and no alert is raised. `compile` writes the formula in PromQL, `deviations` computes it
with numpy; a test checks that they are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleetmedic.alerting.instruments import Instrument
from fleetmedic.kernel.durations import format_duration
from rules.declaration import DETECTOR, Declaration
from rules.detectors.base import (
    DASHBOARD,
    GPU_LABELS,
    FitParameters,
    History,
    Model,
    ModelFacts,
    Query,
    Refusal,
    text,
)
from rules.detectors.calibrate import alerts, calibrate
from rules.detectors.products import PRODUCT, PRODUCTS, product_names
from rules.links import Links
from rules.rule_model import Rule, RuleGroup
from rules.series import Floats, Grid, Key, rolling_median, rolling_min
from rules.timing import Timing

BUSY = 0.3
MIN_PEERS = 4
MIN_GAP = 0.10
COMMON_CAUSE = 0.3
FLOOR_Z = 5.0
MAD_TO_SIGMA = 1.4826
# Relative to the clock. Clocks change in steps of 15 MHz (0.8 % of 1,980 MHz), so smaller differences are
# meaningless. With a spread above 2 %, a gap of 10 % could never exceed z = 5.
MIN_SPREAD, MAX_SPREAD = 0.005, 0.02
WINDOW, WAIT, INTERVAL = 120.0, 300.0, 15.0
MIN_GPU_HOURS = 4.0
MAX_LAGGING_SHARE = 0.10
# The spread is derived from the 95th percentile of all deviations, as for a normal distribution: four
# GPUs alone are too few, and because clocks change in steps most deviations are exactly zero.
TWO_SIDED_95 = 1.96

ALERT = Declaration(
    name="GpuPeerOutlier",
    severity="warning",
    category="gpu",
    instrument=Instrument.PEERS,
    source=DETECTOR,
    playbook="gpu-slow",
)

CLOCK = Query("sm_clock", 'gpu_clock_hertz{domain="sm"}')
UTILIZATION = Query("utilization", "gpu_utilization_ratio")
ALLOCATION = Query("allocation", "gpu_allocation_info", (*GPU_LABELS, "job_id"))


@dataclass(frozen=True, slots=True)
class PeerModel:
    """The learned parameters: the minimum spread relative to the clock, and the threshold."""

    spread: float
    threshold: float
    facts: ModelFacts


@dataclass(frozen=True, slots=True, eq=False)
class JobBand:
    """The busy GPUs of one product in one job over time.

    `job` is the cluster, the job and the product. `gap` is the relative difference from the median
    (positive: slower), `z` the difference in units of the spread (negative: slower).
    """

    job: Key
    gpus: tuple[Key, ...]
    gap: Floats
    z: Floats


class PeerBand:
    """The detector for GPUs that are slower than their peers."""

    name = "peer_band"
    finds = "GPUs that are slower than the other GPUs of the same model in their job"
    alert = ALERT
    budget_per_day = 0.1
    queries = (CLOCK, UTILIZATION, ALLOCATION, PRODUCT)

    def fit(self, history: History, training: FitParameters) -> PeerModel | Refusal:
        """Compute the spread and the threshold from the history.

        Returns a refusal if the history contains too few busy jobs, or if so many GPUs lag that the
        peer groups must be wrong.
        """
        grid = history[CLOCK.name].grid
        width = grid.samples(training.timing.window(WINDOW))
        first = list(deviations(history, width, MIN_SPREAD))
        hours = sum(int(np.isfinite(band.z).sum()) for band in first) * grid.step / 3600
        if hours < MIN_GPU_HOURS:
            return Refusal(
                f"too little history: {hours:.1f} GPU-hours of jobs with {MIN_PEERS} or more busy GPUs "
                f"of one model, but {MIN_GPU_HOURS:g} are required: wait, or increase `window`."
            )
        apart = np.abs(np.concatenate([band.gap[np.isfinite(band.gap)] for band in first]))
        spread = _rounded(float(np.quantile(apart, 0.95)) / TWO_SIDED_95)
        spread = min(MAX_SPREAD, max(MIN_SPREAD, spread))
        bands = list(deviations(history, width, spread))
        return self._calibrated(bands, spread, grid, training)

    def _calibrated(
        self, bands: list[JobBand], spread: float, grid: Grid, training: FitParameters
    ) -> PeerModel | Refusal:
        held = grid.samples(training.timing.wait(WAIT))
        lag = np.concatenate([rolling_min(-band.z, held) for band in bands])
        gap = np.concatenate([rolling_min(band.gap, held) for band in bands])
        gpus = [gpu for band in bands for gpu in band.gpus]
        suspect = (gap >= MIN_GAP) & (lag > FLOOR_Z)
        lagging = _lagging(gpus, suspect, np.isfinite(lag))
        if lagging > max(1.0, MAX_LAGGING_SHARE * len(set(gpus))):
            return Refusal(
                f"{lagging} of {len(set(gpus))} GPUs in the history lag behind their peers most of the "
                "time: jobs probably mix roles, and a rule would report healthy GPUs.",
                failure=True,
            )
        # Exclude samples that would raise the alert: they are not healthy.
        found = calibrate(
            np.where(suspect, np.nan, lag), grid.days, training.budget_per_day, FLOOR_Z
        )
        threshold = round(found.threshold, 1)
        facts = ModelFacts(
            detector=self.name,
            parameters={"spread": spread, "threshold": threshold},
            trained_from=grid.start,
            trained_to=grid.end,
            expected_per_day=found.expected_per_day,
            backtest_alerts=alerts(np.where(gap >= MIN_GAP, lag, 0.0), threshold),
            series=len(set(gpus)),
        )
        return PeerModel(spread, threshold, facts)

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        """Return the detector's six recording rules and its alert.

        The alert has no label `job_id`, because its target is the GPU and not the job.
        """
        assert isinstance(model, PeerModel)  # noqa: S101 - the pipeline passes the model from fit
        window, interval = timing.window(WINDOW), timing.wait(INTERVAL)
        enough = max(2, round(window / interval / 2))
        rules = (
            _recording("gpu:sm_clock_hertz:busy", _BUSY),
            _recording(
                "gpu:sm_clock_hertz:busy_median",
                f"quantile_over_time(0.5, gpu:sm_clock_hertz:busy[{text(window)}])\n"
                f"and count_over_time(gpu:sm_clock_hertz:busy[{text(window)}]) >= {enough}\n"
                "and gpu:sm_clock_hertz:busy",
            ),
            _recording("job:sm_clock_hertz:median", _JOB_MEDIAN),
            _recording("job:sm_clock_hertz:mad", _JOB_MAD),
            _recording("gpu:sm_clock_peer_gap:ratio", _GAP),
            _recording("gpu:sm_clock_peer_z:ratio", _z(model.spread)),
            _alert(model, timing, links),
        )
        return RuleGroup("detector-peer-band", format_duration(interval), rules)


def deviations(history: History, width: int, spread: float) -> Iterator[JobBand]:
    """Compute, as the rules do, how far each busy GPU is from the median clock of its peers.

    Yields one band per job and product with enough peers.
    """
    clock, load, owner = (history[query.name] for query in (CLOCK, UTILIZATION, ALLOCATION))
    owners: dict[Key, Floats] = {}
    for key, row in zip(owner.keys, np.isfinite(owner.values), strict=True):
        owners[key[:4]] = owners.get(key[:4], np.zeros(owner.grid.count)) + row
    products = product_names(history[PRODUCT.name])
    jobs: dict[Key, list[int]] = {}
    for place, key in enumerate(owner.keys):
        if key[4] and (product := products.get(key[:4])):
            jobs.setdefault((key[0], key[4], product), []).append(place)
    for job, places in sorted(jobs.items()):
        gpus = tuple(owner.keys[place][:4] for place in places)
        if len(gpus) < MIN_PEERS:
            continue
        sole = np.stack([owners[gpu] == 1 for gpu in gpus])
        own = np.isfinite(owner.values[places]) & sole & (load.aligned(gpus) > BUSY)
        busy = rolling_median(np.where(own, clock.aligned(gpus), np.nan), width)
        if band := _band(job, gpus, busy, spread):
            yield band


def _band(job: Key, gpus: tuple[Key, ...], busy: Floats, spread: float) -> JobBand | None:
    peers = np.isfinite(busy).sum(axis=0) >= MIN_PEERS
    if not peers.any():
        return None
    middle = np.full(busy.shape[1], np.nan)
    mad = middle.copy()
    middle[peers] = np.nanmedian(busy[:, peers], axis=0)
    mad[peers] = np.nanmedian(np.abs(busy[:, peers] - middle[peers]), axis=0)
    sigma = np.maximum(MAD_TO_SIGMA * mad, spread * middle)
    gap, z = 1 - busy / middle, (busy - middle) / sigma
    out = (gap >= MIN_GAP) & (z <= -FLOOR_Z)
    common = out.sum(axis=0) > COMMON_CAUSE * np.maximum(np.isfinite(busy).sum(axis=0), 1)
    gap = np.where(common, 0.0, gap)  # common cause: no outlier
    return JobBand(job, gpus, gap, z)


def _lagging(gpus: list[Key], suspect: NDArray[np.bool_], seen: NDArray[np.bool_]) -> int:
    """Return the number of GPUs that are slower than their peers for more than half of their busy time.

    A faulty GPU is repaired or removed. A different role in a job is permanent.
    """
    behind, work = Counter[Key](), Counter[Key]()
    for row, gpu in enumerate(gpus):
        behind[gpu] += int(suspect[row].sum())
        work[gpu] += int(seen[row].sum())
    return sum(2 * behind[gpu] > work[gpu] for gpu in work)


def _rounded(value: float) -> float:
    """Round a number to two significant digits, so that similar models give identical rules."""
    return float(f"{value:.2g}")


_PEERS = "cluster, job_id, name"
_ON = f"on ({_PEERS})"
_GPU = ", ".join(GPU_LABELS)

# The busy GPUs of a job, with their product (`name`). The series end with the job, so data of one job does
# not affect the next. GPUs that several jobs share, and GPUs whose holder has no job_id, belong to no peer
# group: pods without a known job are not peers of each other.
_BUSY = f"""\
(
  max by ({_GPU}) (gpu_clock_hertz{{domain="sm"}})
  and on ({_GPU}) max by ({_GPU}) (gpu_utilization_ratio) > {BUSY:g}
  and on ({_GPU}) count by ({_GPU}) (max by ({_GPU}, job_id) (gpu_allocation_info)) == 1
)
* on ({_GPU}) group_right () max by ({_GPU}, job_id) (gpu_allocation_info{{job_id!=""}})
* on ({_GPU}) group_left (name) {PRODUCTS}"""

_JOB_MEDIAN = f"""\
quantile by ({_PEERS}) (0.5, gpu:sm_clock_hertz:busy_median)
and {_ON} count by ({_PEERS}) (gpu:sm_clock_hertz:busy_median) >= {MIN_PEERS}"""

_JOB_MAD = f"""\
quantile by ({_PEERS}) (0.5,
  abs(gpu:sm_clock_hertz:busy_median - {_ON} group_left () job:sm_clock_hertz:median)
)"""

_GAP = f"1 - gpu:sm_clock_hertz:busy_median / {_ON} group_left () job:sm_clock_hertz:median"


def _z(spread: float) -> str:
    return f"""\
(gpu:sm_clock_hertz:busy_median - {_ON} group_left () job:sm_clock_hertz:median)
/ {_ON} group_left ()
(
  {MAD_TO_SIGMA} * job:sm_clock_hertz:mad > {spread:g} * job:sm_clock_hertz:median
  or {spread:g} * job:sm_clock_hertz:median
)"""


def _recording(name: str, expr: str) -> Rule:
    return Rule(name, expr, is_alert=False)


def _alert(model: PeerModel, timing: Timing, links: Links) -> Rule:
    slow = f"(gpu:sm_clock_peer_gap:ratio >= {MIN_GAP:g} and gpu:sm_clock_peer_z:ratio <= -{{}})"
    expr = f"""\
max by ({_GPU}) (
  {slow.format(f"{model.threshold:g}")}
  and {_ON} (
    count by ({_PEERS}) {slow.format(f"{FLOOR_Z:g}")}
    / count by ({_PEERS}) (gpu:sm_clock_peer_gap:ratio) <= {COMMON_CAUSE:g}
  )
)"""
    texts = {
        "summary": "GPU {{ $labels.gpu }} on {{ $labels.node }} is slower than its peers in the same job.",
        "description": "The SM clock of GPU {{ $labels.gpu }} ({{ $labels.uuid }}) on "
        "{{ $labels.node }} is {{ $value | humanizePercentage }} below the median of the GPUs "
        f"of the same model in the same job, which is more than {model.threshold:g} robust standard deviations. "
        "The other GPUs wait for it, so the whole job is slow.",
    }
    return ALERT.rule(expr, format_duration(timing.wait(WAIT)), texts, links, DASHBOARD)
