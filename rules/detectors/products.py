"""The product name of each GPU, such as `NVIDIA H100 80GB HBM3`.

Clocks, power and temperatures of different products differ, so detectors compare only GPUs of the same
product. A GPU that does not have exactly one product name is not compared.
"""

from __future__ import annotations

from rules.detectors.base import GPU_LABELS, Query
from rules.series import Key, Series

PRODUCT = Query("product", "gpu_info", (*GPU_LABELS, "name"))

_GPU = ", ".join(GPU_LABELS)
_NAMED = f'max by ({_GPU}, name) (gpu_info{{name!=""}})'
# One series with the label `name` for each GPU with exactly one product name.
PRODUCTS = f"({_NAMED} and on ({_GPU}) count by ({_GPU}) ({_NAMED}) == 1)"


def product_names(info: Series) -> dict[Key, str]:
    """Return the product names by GPU, from the history of `PRODUCT`."""
    found: dict[Key, set[str]] = {}
    for key in info.keys:
        if key[-1]:
            found.setdefault(key[:-1], set()).add(key[-1])
    return {gpu: min(names) for gpu, names in found.items() if len(names) == 1}
