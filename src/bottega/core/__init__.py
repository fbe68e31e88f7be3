"""Floor 1: the nouns everything else is written in. Recipe, bundle, request, controls, lineage, errors, files."""
