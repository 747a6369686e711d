"""Runs the command line: `python -m fleetmedic` is the same as `fleetmedic`."""

from fleetmedic.cli import main

main()
