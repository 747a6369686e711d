"""Service discovery: offers the scrape targets of hosts.yml to Prometheus by HTTP (http_sd) and file (file_sd)."""
