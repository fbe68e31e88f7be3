"""The workshop's memory and the one path of every request: models, works, feedback, prompts, audit, keys, settings."""
