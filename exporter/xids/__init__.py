"""The kernel log, and what it and the driver tell of errors: counted, and judged."""
