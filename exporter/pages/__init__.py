"""From samples to the pages that scrapes get."""
