"""The parts of bench/adversary.py: the stack under attack, its true state, and the moves."""
