"""Renders samples into the pages for scrapes."""
