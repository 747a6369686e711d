"""Draws the committed dashboards without Grafana: a read-only proxy to Prometheus, and the pages."""
