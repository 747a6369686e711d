"""Exports whether the kernel modules that GPU jobs need are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import read_if_there

MODULES = "nvidia,nvidia_uvm,nvidia_modeset,nvidia_peermem,gdrdrv,nvidia_fs,ib_core,ib_uverbs,mlx5_core,mlx5_ib"
MAX_MODULES = 64


class KernelModules:
    """Reads `sysfs`/module.

    Without nvidia_peermem, traffic between GPUs and network cards goes through the CPU. No other
    metric of the exporter or node_exporter shows this.
    """

    name = "kernel_modules"
    inline = False
    interval = 30.0

    def __init__(self, sysfs: Path, modules: Sequence[str]) -> None:
        self._root = sysfs / "module"
        self._modules = modules[:MAX_MODULES]

    def collect(self, now: float) -> Iterator[Sample]:
        for module in self._modules:
            folder = self._root / module
            state = read_if_there(folder / "initstate")
            # a module that is built into the kernel has a folder but no state
            loaded = state == "live" or (state is None and folder.is_dir())
            yield Sample("node_kernel_module_loaded", (module,), loaded)
