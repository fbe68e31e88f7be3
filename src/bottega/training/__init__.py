"""Step 2: the one loop, its optimisers, schedule, precision and checkpoints."""
