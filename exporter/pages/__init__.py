"""Renders samples as the metrics pages that scrapes get."""
