"""What the generated rules do, evaluated by Prometheus' own promtool: when GpuPeerOutlier fires, when
it stays silent, and that the formula in PromQL is the formula in numpy."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rules.detectors.base import ModelFacts
from rules.detectors.gpu_covariance import CovarianceModel, GpuCovariance, ProductModel
from rules.detectors.peer_band import (
    ALLOCATION,
    CLOCK,
    UTILIZATION,
    PeerBand,
    PeerModel,
    deviations,
)
from rules.detectors.products import PRODUCT
from rules.links import Links
from rules.lint import lint_file
from rules.pipeline import described, render
from rules.series import Grid, Series
from rules.timing import Timing

pytestmark = pytest.mark.integration
BUSY_CLOCK, IDLE_CLOCK = 1950e6, 345e6
MINUTES = 20
STEP = 15
COUNT = MINUTES * 60 // STEP + 1
FACTS = ModelFacts("peer_band", {"spread": 0.005, "threshold": 5.0}, 0.0, 86_400.0, 0.01, 0, 32)
MODEL = PeerModel(0.005, 5.0, FACTS)


@dataclass(frozen=True)
class Gpu:
    """One GPU's series: clocks, loads and jobs, one per 15 s; None is a gap."""

    index: int
    clock: Sequence[float | None]
    load: Sequence[float | None]
    job: Sequence[str | None]
    node: str = "node1"
    product: str = "H100"

    @property
    def labels(self) -> str:
        return f'cluster="local",node="{self.node}",gpu="{self.index}",uuid="GPU-{self.node}-{self.index}"'


def steady(index: int, clock: float = BUSY_CLOCK, load: float = 0.96, job: str | None = "train", node: str = "node1", product: str = "H100") -> Gpu:  # fmt: skip
    return Gpu(index, [clock] * COUNT, [load] * COUNT, [job] * COUNT, node, product)


def between(first: int, last: int, inside: Any, outside: Any) -> list[Any]:
    """A value from minute `first` to minute `last`, another outside."""
    return [inside if first <= n * STEP / 60 < last else outside for n in range(COUNT)]


def series(gpus: Sequence[Gpu]) -> list[dict[str, str]]:
    def row(name: str, values: Sequence[float | None]) -> dict[str, str]:
        return {
            "series": name,
            "values": " ".join("_" if v is None else repr(float(v)) for v in values),
        }

    out = []
    for gpu in gpus:
        own = f'job="node",instance="a:1",{gpu.labels}'
        out.append(row(f'gpu_clock_hertz{{domain="sm",{own}}}', gpu.clock))
        out.append(row(f"gpu_utilization_ratio{{{own}}}", gpu.load))
        if gpu.product:
            out.append(row(f'gpu_info{{{own},name="{gpu.product}",driver="570"}}', [1.0] * COUNT))
        for job in sorted({job for job in gpu.job if job is not None}):
            held = [1.0 if job == at else None for at in gpu.job]
            out.append(row(f'gpu_allocation_info{{{own},job_id="{job}",user="u"}}', held))
    # A series that ends in a test is seen for five minutes more, unless it is marked stale as a
    # scrape would.
    for item in out:
        values = item["values"].split()
        marked = [
            "stale" if value == "_" and n and values[n - 1] not in ("_", "stale") else value
            for n, value in enumerate(values)
        ]
        item["values"] = " ".join(marked)
    return out


def fires(parts: dict[str, Path], folder: Path, gpus: Sequence[Gpu], timing: Timing) -> set[str]:
    """For every minute, the labels of firing GpuPeerOutlier alerts, as `node/gpu`."""
    group = PeerBand().compile(MODEL, timing, Links("http://runbooks"))
    (folder / "rules.yml").write_text(render(group, FACTS, timing.factor))
    wanted = [
        {"alertname": "GpuPeerOutlier", "eval_time": f"{minute}m", "exp_alerts": []}
        for minute in range(1, MINUTES + 1)
    ]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": group.interval,
        "tests": [
            {"interval": f"{STEP}s", "input_series": series(gpus), "alert_rule_test": wanted}
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [str(parts["promtool"]), "test", "rules", str(folder / "test.yml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "error" not in said.lower() or "exp" in said, said
    if done.returncode == 0:
        return set()
    assert "GpuPeerOutlier" in said, said
    found = set()
    for gpu in gpus:
        if f'gpu="{gpu.index}", instrument="peers", node="{gpu.node}"' in said:
            found.add(f"{gpu.node}/{gpu.index}")
    return found


JOB4 = [steady(index) for index in range(4)]
SLOW = 0.75 * BUSY_CLOCK
A100_CLOCK = 1410e6
CASES: dict[str, tuple[list[Gpu], set[str]]] = {
    "a slow GPU among four": ([*JOB4[:3], steady(3, SLOW)], {"node1/3"}),
    "a slow GPU among eight on two nodes": (
        [*JOB4, *(steady(i, node="node2") for i in range(3)), steady(3, SLOW, node="node2")],
        {"node2/3"},
    ),
    "two slow GPUs of eight": (
        [*(steady(i) for i in range(6)), steady(6, SLOW), steady(7, SLOW)],
        {"node1/6", "node1/7"},
    ),
    "the others wait and are less busy": (
        [*(steady(i, load=0.72) for i in range(3)), steady(3, SLOW)],
        {"node1/3"},
    ),
    "a neighbour's gap does not hide it": (
        [*(steady(i) for i in range(4)), steady(4, SLOW), Gpu(5, [None] * COUNT, [0.96] * COUNT, ["train"] * COUNT)],
        {"node1/4"},
    ),
    "a slow GPU among those of its product": (
        [
            *(steady(i) for i in range(8)),
            *(steady(i, A100_CLOCK, node="node2", product="A100") for i in range(3)),
            steady(3, 0.75 * A100_CLOCK, node="node2", product="A100"),
        ],
        {"node2/3"},
    ),
    "GPUs of another product in the job": (
        [
            *(steady(i) for i in range(12)),
            *(steady(i, A100_CLOCK, node="node2", product="A100") for i in range(4)),
        ],
        set(),
    ),
    "a GPU of unknown product": ([*JOB4, steady(4, SLOW, product="")], set()),
    "a healthy job": (JOB4, set()),
    "8 percent is no outlier": ([*JOB4[:3], steady(3, 0.92 * BUSY_CLOCK)], set()),
    "a fast GPU": ([*JOB4[:3], steady(3, 1.25 * BUSY_CLOCK)], set()),
    "three GPUs": ([*JOB4[:2], steady(2, SLOW)], set()),
    "an idle GPU in the job": ([*JOB4, steady(4, IDLE_CLOCK, 0.0)], set()),
    "idle GPUs only": ([steady(i, IDLE_CLOCK * (1 - 0.2 * (i == 3)), 0.0) for i in range(4)], set()),
    "no job": ([*(steady(i, job=None) for i in range(3)), steady(3, SLOW, job=None)], set()),
    "holders without a job": ([*(steady(i, job="") for i in range(3)), steady(3, SLOW, job="")], set()),
    "half of the job is slow": ([*JOB4[:2], steady(2, SLOW), steady(3, SLOW)], set()),
    "a third of the job is slow": (
        [*(steady(i) for i in range(4)), steady(4, SLOW), steady(5, SLOW)],
        set(),
    ),
    "one short dip": (
        [*JOB4[:3], Gpu(3, between(8, 10, SLOW, BUSY_CLOCK), [0.96] * COUNT, ["train"] * COUNT)],
        set(),
    ),
    "jobs come and go, one GPU a little later": (
        [
            Gpu(
                i,
                between(5, 12, BUSY_CLOCK, IDLE_CLOCK),
                between(5 + (i == 3), 12 - (i == 2), 0.96, 0.0),
                between(5, 12, "train", None),
            )
            for i in range(4)
        ],
        set(),
    ),
    "another job begins on the same GPUs": (
        [
            Gpu(
                i,
                between(0, 10, BUSY_CLOCK if i < 4 else SLOW, BUSY_CLOCK),
                [0.96] * COUNT,
                between(0, 10, "one" if i < 4 else "two", "three"),
            )
            for i in range(8)
        ],
        set(),
    ),
    "the clock of the fourth is missing": (
        [*JOB4[:2], steady(2, SLOW), Gpu(3, [None] * COUNT, [0.96] * COUNT, ["train"] * COUNT)],
        set(),
    ),
    "the utilization is missing": (
        [Gpu(i, [SLOW if i == 3 else BUSY_CLOCK] * COUNT, [None] * COUNT, ["train"] * COUNT) for i in range(4)],
        set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_peer_rule_names_the_slow_gpu_and_nobody_else(
    name: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    gpus, wanted = CASES[name]
    assert fires(parts, tmp_path, gpus, Timing(1.0)) == wanted


@pytest.mark.parametrize("name", ["a slow GPU among four", "a healthy job", "three GPUs"])
def test_the_same_holds_with_durations_divided(
    name: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    gpus, wanted = CASES[name]
    assert fires(parts, tmp_path, gpus, Timing(30.0, scrape_interval=15.0)) == wanted


def test_a_gpu_shared_by_two_jobs_breaks_no_rule(parts: dict[str, Path], tmp_path: Path) -> None:
    shared = Gpu(0, [BUSY_CLOCK] * COUNT, [0.96] * COUNT, ["other"] * COUNT)
    gpus = [shared, *JOB4, *(steady(i) for i in (4, 5)), steady(6, SLOW)]
    assert fires(parts, tmp_path, gpus, Timing(1.0)) == {"node1/6"}


def test_the_recorded_deviation_is_the_one_computed_on_history(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    chance = np.random.default_rng(3)
    clocks = BUSY_CLOCK * (1 - 0.01 * chance.random((6, COUNT)))
    clocks[2] *= 0.85
    clocks[chance.random(clocks.shape) < 0.05] = np.nan
    gpus = [
        Gpu(i, [None if np.isnan(v) else float(v) for v in row], [0.9] * COUNT, ["t"] * COUNT)
        for i, row in enumerate(clocks)
    ]
    grid = Grid(0.0, STEP, COUNT)
    keys = tuple(("local", "node1", str(i), f"GPU-node1-{i}") for i in range(6))
    history = {
        CLOCK.name: Series(CLOCK.labels, keys, grid, clocks),
        UTILIZATION.name: Series(CLOCK.labels, keys, grid, np.full(clocks.shape, 0.9)),
        ALLOCATION.name: Series(
            ALLOCATION.labels, tuple((*key, "t") for key in keys), grid, np.ones(clocks.shape)
        ),
        PRODUCT.name: Series(
            PRODUCT.labels, tuple((*key, "H100") for key in keys), grid, np.ones(clocks.shape)
        ),
    }
    # promtool's ranges are closed on the left before Prometheus 3 and open since: a range that is
    # no multiple of the step holds the same samples in both.
    timing = Timing(1.0, scrape_interval=17.0)
    band = next(deviations(history, 8, MODEL.spread))
    rules = PeerBand().compile(MODEL, timing, Links("http://runbooks"))
    text = render(rules, FACTS, 1.0).replace("[2m]", "[119s]")
    (tmp_path / "rules.yml").write_text(text)
    checks = [
        {
            "expr": f'round(gpu:sm_clock_peer_z:ratio{{gpu="{gpu.index}"}} - ({float(band.z[row, n])!r}), 1e-6)',
            "eval_time": f"{n * STEP}s",
            "exp_samples": [{"labels": f'{{{gpu.labels},job_id="t",name="H100"}}', "value": 0}],
        }
        for n in (30, 47, 64)
        for row, gpu in enumerate(gpus)
        if np.isfinite(band.z[row, n])
    ]
    assert len(checks) > 12
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{STEP}s",
        "tests": [
            {"interval": f"{STEP}s", "input_series": series(gpus), "promql_expr_test": checks}
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [str(parts["promtool"]), "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_score_rule_points_at_the_sick_machine(parts: dict[str, Path], tmp_path: Path) -> None:
    facts = ModelFacts("gpu_covariance", {"threshold": 4.0}, 0.0, 86_400.0, 0.5, 0, 32)
    product = ProductModel((0, 1), (0.0, 0.0), (0.0, 0.0), ((1.0, 0.0), (0.0, 1.0)))
    model = CovarianceModel({"H100": product}, 4.0, facts)
    group = GpuCovariance().compile(model, Timing(1.0), Links("http://runbooks"))
    path = tmp_path / "rules.yml"
    path.write_text(render(described(group, facts), facts, 1.0))
    assert [str(f) for f in lint_file(path)] == []
    base = 'detector="gpu_covariance",job="rules",instance="r:1",cluster="hub"'
    alert = {
        "exp_labels": {
            "severity": "info", "category": "gpu", "source": "detector", "instrument": "peers",
            "cluster": "local", "node": "node2", "gpu": "3", "uuid": "GPU-x",
        }
    }  # fmt: skip
    score = f'detector_score{{{base},target_cluster="local",target_node="node2",gpu="%s",uuid="GPU-%s"}}'
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": score % (3, "x"), "values": "9x80"},
                    {"series": score % (4, "y"), "values": "3x80"},
                    {"series": f"detector_threshold{{{base}}}", "values": "4x80"},
                ],
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": "10m",
                        "exp_samples": [
                            {
                                "labels": "ALERTS{"
                                + ",".join(
                                    f'{k}="{v}"'
                                    for k, v in {
                                        **alert["exp_labels"],
                                        "alertname": "GpuAnomalyScoreHigh",
                                        "alertstate": "firing",
                                    }.items()
                                )
                                + "}",
                                "value": 1,
                            }
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [str(parts["promtool"]), "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_generated_peer_rules_pass_our_own_lint(tmp_path: Path) -> None:
    group = PeerBand().compile(MODEL, Timing(1.0), Links("http://runbooks"))
    path = tmp_path / "rules.yml"
    path.write_text(render(described(group, FACTS), FACTS, 1.0))
    assert [str(f) for f in lint_file(path)] == []
