"""Service discovery: gives Prometheus the scrape targets of hosts.yml by HTTP (http_sd) and file (file_sd)."""
