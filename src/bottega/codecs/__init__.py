"""Step 6: raw medium to tensors and back."""
