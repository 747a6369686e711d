"""`python -m fleetmedic` is `fleetmedic`."""

from fleetmedic.cli import main

main()
