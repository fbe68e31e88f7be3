"""The HTTP door: OpenAI-compatible routes over the workshop; `bottega serve` opens it."""
