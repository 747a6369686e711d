"""Functions that the commands share: the options that select a stack, and tables."""
