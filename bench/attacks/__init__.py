"""The parts of bench/adversary.py: the site under attack, the truth about it, and the moves."""
