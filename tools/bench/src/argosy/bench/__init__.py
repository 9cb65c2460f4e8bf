"""Benchmarks: ratios measured in one run, against something real."""
