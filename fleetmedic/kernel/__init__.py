"""Basic types and functions that all packages share. Imports no other package of the project."""
