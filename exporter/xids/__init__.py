"""Reads the kernel log, counts the errors in it and in the driver's events, and recommends actions."""
