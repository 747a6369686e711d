"""fleetmedic: code that exporter, rules and remediator share; the stack and the command line."""

__version__ = "0.1.0"
