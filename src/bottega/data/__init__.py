"""Step 1: sources, extraction, cleaning, duplicates, splits, packing; every step a pure function of its inputs."""
