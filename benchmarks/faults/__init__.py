"""What kills, failing writes and second commands do to results: `python -m benchmarks.faults --help`."""
