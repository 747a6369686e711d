"""Words and small tools that every process shares. Imports nothing else of ours."""
