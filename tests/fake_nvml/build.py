"""Builds the stand-in of NVML with the system's compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")


def build(folder: Path, *, old: bool = False) -> Path:
    """Compile the library into that folder, and return it. `old` leaves out what newer drivers brought.

    Raises FileNotFoundError when there is no compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("there is no C compiler: install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", *(["-DOLD_DRIVER"] if old else [])]
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True)
    return folder
