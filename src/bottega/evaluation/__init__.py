"""Step 3: what a model can and cannot do, in numbers and in a report."""
