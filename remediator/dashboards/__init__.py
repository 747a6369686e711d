"""The dashboards without Grafana: HTML pages, and a read-only proxy to Prometheus."""
