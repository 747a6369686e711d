"""The declarations of all actions, for tests of the core."""

from remediator.actions.registry import catalogue

ACTIONS = catalogue()
