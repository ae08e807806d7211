"""What benchmarks/embed.py compares: the same media through the same model, each way in a process of its own."""
