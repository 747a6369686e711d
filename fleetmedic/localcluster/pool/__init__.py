"""The worker pool: a small inference service with a queue, for alerts and scaling to work on."""
