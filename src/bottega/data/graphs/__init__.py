"""Graphs: drawn from known distributions (`synthetic`) or read from files of molecules and networks (`read`)."""
