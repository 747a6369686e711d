"""The registry of detectors. A new detector is one module in this package and one entry here."""

from __future__ import annotations

from fleetmedic.kernel.registry import Registry
from rules.detectors.base import Detector
from rules.detectors.gpu_covariance import GpuCovariance
from rules.detectors.peer_band import PeerBand

DETECTORS: Registry[Detector] = Registry("detector", (PeerBand(), GpuCovariance()))
