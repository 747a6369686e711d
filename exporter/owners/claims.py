"""Reads which GPUs pods hold by resource claims (dynamic resource allocation, DRA), from the
kubelet's state.

The device plugin checkpoint does not contain GPUs that NVIDIA's DRA driver allocated. The state
file contains nested JSON: the claims with the pods that use them, and the devices of each driver.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from exporter.collector import CollectorError
from exporter.owners import bounded
from exporter.owners.base import Holding, text
from exporter.owners.pods import UID, Pods

STATE = "dra_manager_state"
DRIVER = "gpu.nvidia.com"
MAX_BYTES = 8 * 2**20
MAX_CLAIMS = 4096
# the number is that of the device file, also for a partition
_DEVICE = re.compile(r"gpu-([0-9]{1,3})(?:-mig-[0-9a-z.-]{1,64})?")


class _ClaimDevice(msgspec.Struct, frozen=True):
    name: str = msgspec.field(name="DeviceName")


class _ClaimDriver(msgspec.Struct, frozen=True):
    devices: list[_ClaimDevice] | None = msgspec.field(name="Devices", default=None)


class _Claim(msgspec.Struct, frozen=True):
    namespace: str = msgspec.field(name="Namespace", default="")
    pods: dict[str, object] | None = msgspec.field(name="PodUIDs", default=None)
    drivers: dict[str, _ClaimDriver] | None = msgspec.field(name="DriverState", default=None)


class _Claims(msgspec.Struct, frozen=True):
    found: list[_Claim] | None = msgspec.field(name="ClaimInfoStateList")


class _ClaimCheckpoint(msgspec.Struct, frozen=True):
    data: str = msgspec.field(name="Data")


class ClaimOwners:
    """Reads the resource claims below `root`, the kubelet's directory."""

    name = "kubelet_claims"

    def __init__(self, root: Path, pods: Pods) -> None:
        self._path = root / STATE
        self._pods = pods

    def is_present(self) -> bool:
        return bounded.exists(self._path)

    def holdings(self, now: float) -> Iterator[Holding]:
        claims = [claim for claim in self._claims() if DRIVER in (claim.drivers or {})]
        if not claims:
            return
        alive, names = self._pods.alive(), self._pods.names()
        for claim in claims:
            gpus = self._gpus(claim)
            for uid in claim.pods or {}:
                if not UID.fullmatch(uid) or (alive is not None and uid not in alive):
                    continue
                namespace, pod = names.get(uid, (text(claim.namespace), ""))
                for gpu in gpus:
                    yield Holding(gpu, f"pod:{uid}", namespace=namespace, pod=pod)

    def _gpus(self, claim: _Claim) -> list[str]:
        """Return the device files of a claim's GPUs, without duplicates.

        Raises CollectorError for a device name in another format, because it could be any GPU.
        """
        found = []
        for device in (claim.drivers or {})[DRIVER].devices or ():
            match = _DEVICE.fullmatch(device.name)
            if match is None:
                name = device.name[:80]
                raise CollectorError(f"{self._path}: unknown device name {name!r} of {DRIVER}")
            found.append(f"nvidia{match[1]}")
        return list(dict.fromkeys(found))

    def _claims(self) -> list[_Claim]:
        try:
            outer = msgspec.convert(
                json.loads(bounded.read(self._path, MAX_BYTES)), _ClaimCheckpoint
            )
            claims = msgspec.convert(json.loads(outer.data), _Claims).found or []
        except OSError as error:
            raise CollectorError(f"cannot read {self._path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            why = str(error)[:120]
            raise CollectorError(
                f"{self._path}: expected a claim state file of Kubernetes 1.32 or later: {why}"
            ) from None
        if len(claims) > MAX_CLAIMS:
            raise CollectorError(f"{self._path} has more than {MAX_CLAIMS} claims")
        return claims
