"""Pictures with classes and captions, from sources to a prepared dataset: `prepare.prepare_pictures`."""
