"""Steps 6 to 8: from a request to text, one visible step at a time. `Engine.open(bundle)` is the way in."""
