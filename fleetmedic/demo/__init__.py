"""The demo: starts the whole stack with two training jobs, injects four faults, and prints a timeline."""
