"""Tells Prometheus what to scrape, from a list of hosts: by HTTP (http_sd) and as a file (file_sd)."""
