"""The worker pool: a small inference service with a queue, to demonstrate alerts and scaling."""
