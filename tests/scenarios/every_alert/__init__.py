"""Raises every shipped alert once, on a simulated fleet with the real programs.

A story injects a fault and lists the alerts that it must raise. `index.py` has all stories, and the
alerts without a story, with the reason. `python -m every_alert` (`make scenarios`) starts the fleet
(`fleet.py`), checks that no alert fires while it is healthy, starts all stories, and records how long
each alert took.

Only the lowest level is fake: a folder of simulated GPUs, kernel files, and two system calls
(`kernel_stand_in.c`). External systems, such as the queues of a scheduler, are fake pages in the format
of that system (`outside.py`).
"""
