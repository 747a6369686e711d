"""The processes that read the GPUs, and what decides which of them reads what."""
