"""The generators: one file an architecture, one interface (base.py)."""
