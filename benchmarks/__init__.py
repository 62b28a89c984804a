"""Measurements, one script a question: `python -m benchmarks.NAME --json FILE`."""
