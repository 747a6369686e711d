"""fleetmedic: what the three processes share, and what stands above them."""

__version__ = "0.1.0"
