"""The studio: the web app of the workshop, served by `bottega serve` beside the HTTP API."""
