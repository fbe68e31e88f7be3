"""Steps 6-8: cached decoding, controls, constraints, explanation."""
