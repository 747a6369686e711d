"""Every shipped alert is raised once, on a simulated fleet with the real programs around it.

A story says what is done to the fleet and which alerts it must raise; `index.py` has all of them, and
the few alerts that no story can raise, with the reason. `python -m every_alert` (`make scenarios`) starts
the fleet (`fleet.py`), looks that it is quiet while it is well, lets every story begin, and writes down
how long each alert took.

What is made up lies as deep as it can: a folder of simulated GPUs, files that the kernel would show, and
two system calls (`kernel_stand_in.c`). What belongs to somebody else entirely, such as a scheduler's
queues, is a small page in that system's own format (`outside.py`).
"""
