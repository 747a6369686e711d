"""The demo: the whole stack, two training jobs, four injected faults, one timeline."""
