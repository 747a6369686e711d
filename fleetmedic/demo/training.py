"""The demo's job: trains a small model, writes checkpoints, resumes with reproducible results.

    python -m fleetmedic.demo.training --steps 400 --seed 7 --step-seconds 0.2

The batch of a step depends only on the seed and the step. So a run that lost its GPU and resumed
from a checkpoint on other GPUs ends with bitwise the same weights as an undisturbed run. SIGUSR1
requests a checkpoint at the end of the step; SIGTERM requests a checkpoint and exits (code 143). A
lost GPU loses its memory, so the job exits immediately with code 1, without a checkpoint.
"""

from __future__ import annotations

import os

# Set before numpy is imported: with several threads the order of summation varies between runs.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import re  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from itertools import pairwise  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from fleetmedic.hardware.workload import GpuGroup, GpuLostError  # noqa: E402
from fleetmedic.kernel.files import write_atomic  # noqa: E402
from fleetmedic.progress import Progress  # noqa: E402

Array = NDArray[np.float64]
LAYERS = (16, 48, 48, 1)
BATCH = 64
RATE = 0.05
MOMENTUM = 0.9
KEPT_CHECKPOINTS = 3
EXIT_LOST = 1
EXIT_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The model after `step` steps: weights and momenta, each as alternating matrices and biases."""

    step: int
    weights: tuple[Array, ...]
    momenta: tuple[Array, ...]

    def sha256(self) -> str:
        """Return the SHA-256 of the model's weights."""
        digest = hashlib.sha256()
        for array in self.weights:
            digest.update(array.tobytes())
        return digest.hexdigest()

    def pack(self) -> bytes:
        """Return the bytes of all weights and momenta, concatenated."""
        return b"".join(array.tobytes() for array in (*self.weights, *self.momenta))


def _shapes() -> list[tuple[int, ...]]:
    return [
        shape for inputs, outputs in pairwise(LAYERS) for shape in ((inputs, outputs), (outputs,))
    ]


def fresh(seed: int) -> TrainingState:
    """Return the untrained model, before its first step."""
    random = np.random.default_rng([seed, 0])
    weights = tuple(
        random.normal(0, 1 / np.sqrt(shape[0]), shape) if len(shape) == 2 else np.zeros(shape)
        for shape in _shapes()
    )
    return TrainingState(0, weights, tuple(np.zeros_like(array) for array in weights))


def unpack(step: int, raw: bytes) -> TrainingState:
    """Restore the model from the bytes of `pack`. Raises ValueError if the number of bytes is wrong."""
    shapes = _shapes() * 2
    flat = np.frombuffer(raw, dtype=np.float64)
    sizes = [int(np.prod(shape)) for shape in shapes]
    if flat.size != sum(sizes):
        raise ValueError("the checkpoint does not match the model's shape")
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    arrays = tuple(part.reshape(shape).copy() for part, shape in zip(parts, shapes, strict=True))
    half = len(shapes) // 2
    return TrainingState(step, arrays[:half], arrays[half:])


def batch(seed: int, step: int) -> tuple[Array, Array]:
    """Return the training data of a step: inputs and target outputs."""
    random = np.random.default_rng([seed, 1, step])
    inputs = random.normal(size=(BATCH, LAYERS[0]))
    wanted = np.sin(inputs[:, :4].sum(axis=1)) + 0.5 * inputs[:, 4] * inputs[:, 5]
    return inputs, wanted[:, None]


def train_step(model: TrainingState, inputs: Array, wanted: Array) -> tuple[TrainingState, float]:
    """Run one step of gradient descent with momentum; returns the next model and the loss."""
    outs = [inputs]
    last = len(model.weights) // 2 - 1
    for layer in range(last + 1):
        value = outs[-1] @ model.weights[2 * layer] + model.weights[2 * layer + 1]
        outs.append(np.tanh(value) if layer < last else value)
    error = outs[-1] - wanted
    delta = 2 * error / BATCH
    gradients: list[Array] = []
    for layer in range(last, -1, -1):
        gradients[:0] = [outs[layer].T @ delta, delta.sum(axis=0)]
        delta = (delta @ model.weights[2 * layer].T) * (1 - outs[layer] ** 2)
    momenta = tuple(
        MOMENTUM * before + gradient
        for before, gradient in zip(model.momenta, gradients, strict=True)
    )
    weights = tuple(
        before - RATE * momentum for before, momentum in zip(model.weights, momenta, strict=True)
    )
    return TrainingState(model.step + 1, weights, momenta), float(np.mean(error**2))


def undisturbed(seed: int, steps: int) -> str:
    """Train without interruption, and return the SHA-256 of the final weights."""
    model = fresh(seed)
    for _ in range(steps):
        model, _ = train_step(model, *batch(seed, model.step))
    return model.sha256()


# ---- checkpoints


def save(folder: Path, model: TrainingState, seed: int) -> None:
    """Write a checkpoint atomically with fsync, and keep only the newest three."""
    raw = model.pack()
    head = {"step": model.step, "seed": seed, "sha256": hashlib.sha256(raw).hexdigest()}
    write_atomic(folder / f"step-{model.step:09d}.ckpt", json.dumps(head).encode() + b"\n" + raw)
    for old in sorted(folder.glob("step-*.ckpt"))[:-KEPT_CHECKPOINTS]:
        old.unlink(missing_ok=True)


def newest(folder: Path, seed: int) -> tuple[TrainingState, float] | None:
    """Return the newest valid checkpoint of this seed with its modification time, or None."""
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        try:
            first, _, raw = path.read_bytes().partition(b"\n")
            head = json.loads(first)
            if head["seed"] == seed and head["sha256"] == hashlib.sha256(raw).hexdigest():
                return unpack(int(head["step"]), raw), path.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: try an older one
    return None


# ---- the run


@dataclass(slots=True)
class SignalRequests:
    """The requests that arrived as signals: a checkpoint (SIGUSR1) or an exit (SIGTERM)."""

    checkpoint: bool = False
    end: bool = False

    def listen(self) -> None:
        """Install the signal handlers for SIGUSR1 and SIGTERM."""

        def usr1(*_: object) -> None:
            self.checkpoint = True

        def term(*_: object) -> None:
            self.end = True

        signal.signal(signal.SIGUSR1, usr1)
        signal.signal(signal.SIGTERM, term)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of a run. `step_seconds` is the duration of a step on healthy GPUs."""

    steps: int
    seed: int
    step_seconds: float
    checkpoint_every: int


def _pace(step_seconds: float) -> Callable[[], float]:
    """Return a function that waits for one step of the job's simulated GPUs, or sleeps if it has none."""
    group = GpuGroup.of_job()
    if group is not None:
        return lambda: group.step(step_seconds)

    def wait() -> float:
        time.sleep(step_seconds)
        return step_seconds

    return wait


def run(plan: RunSettings, folder: Path) -> int:
    """Train from the newest checkpoint to the last step; returns the exit code."""
    asked = SignalRequests()
    asked.listen()
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(checkpoint_interval=plan.checkpoint_every * plan.step_seconds)
    pace = _pace(plan.step_seconds)
    found = newest(folder, plan.seed)
    model = fresh(plan.seed)
    if found is not None:
        model, at = found
        progress.checkpoint(model.step, at=at)
    print(f"training from step {model.step} to {plan.steps}", flush=True)
    _note(folder, "from", model.step)
    with progress:
        while model.step < plan.steps:
            try:
                took = pace()
            except GpuLostError as error:
                print(f"{error}, at step {model.step}", file=sys.stderr, flush=True)
                _note(folder, "lost", model.step)
                return EXIT_LOST
            began = time.monotonic()
            data = batch(plan.seed, model.step)
            waited = time.monotonic() - began
            model, loss = train_step(model, *data)
            # a step counts the simulated GPU time and the data wait, not numpy's time on the CPU
            progress.step(
                model.step,
                loss=loss,
                seconds=took + waited,
                samples=BATCH,
                data_wait=waited,
                compute=took,
            )
            if asked.end or asked.checkpoint or model.step % plan.checkpoint_every == 0:
                asked.checkpoint = False
                save(folder, model, plan.seed)
                progress.checkpoint(model.step)
                print(f"checkpoint of step {model.step}, loss {loss:.4f}", flush=True)
            if asked.end and model.step < plan.steps:
                return EXIT_TERMINATED
    _finish(folder, model)
    return 0


def _note(folder: Path, what: str, step: int) -> None:
    with (folder / "history").open("a") as file:
        file.write(f"{what} {step}\n")


def _done_twice(folder: Path) -> list[int]:
    """Return the number of repeated steps for each GPU loss: the last step minus the checkpoint's step."""
    notes = re.findall(r"^(from|lost) (\d+)$", (folder / "history").read_text(), re.MULTILINE)
    return [
        int(reached) - int(resumed)
        for (what, reached), (_, resumed) in pairwise(notes)
        if what == "lost"
    ]


def _finish(folder: Path, model: TrainingState) -> None:
    restarts = int(os.environ.get("FLEETMEDIC_RESTARTS") or 0)
    final = {
        "sha256": model.sha256(),
        "steps": model.step,
        "restarts": restarts,
        "done_twice": _done_twice(folder),
    }
    write_atomic(folder / "final.json", json.dumps(final) + "\n")
    print(f"done: {final['sha256']}", flush=True)


def main() -> None:
    """Run the training with the command line's arguments."""
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--step-seconds", type=float, default=0.2)
    parser.add_argument("--checkpoint-every", type=int, default=20)
    given = parser.parse_args()
    if given.steps < 1 or given.checkpoint_every < 1 or given.step_seconds < 0 or given.seed < 0:
        parser.error(
            "expected --steps and --checkpoint-every of at least 1, --step-seconds and --seed of at "
            "least 0"
        )
    folder = Path(os.environ.get("FLEETMEDIC_CHECKPOINT_DIR") or "checkpoints")
    plan = RunSettings(given.steps, given.seed, given.step_seconds, given.checkpoint_every)
    sys.exit(run(plan, folder))


if __name__ == "__main__":
    main()
