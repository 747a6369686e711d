"""fleetmedic: the command line, the stack, and the code that exporter, rules and remediator share."""

__version__ = "0.1.0"
