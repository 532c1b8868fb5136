"""What the system costs, measured on real processes: `make bench`, or `python -m benchmarks jobs idle` for a part."""
