"""The demo: the whole stack, two training jobs, four disturbances, one timeline of what was seen."""
