"""Floor 2: what goes into a model and what comes out of it is checked here, at every door the same way."""
