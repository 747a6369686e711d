"""The worker processes that read the GPUs, and the logic that assigns GPUs to them."""
