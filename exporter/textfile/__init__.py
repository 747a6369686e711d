"""Reads metrics of other programs from text files in the exposition format."""
