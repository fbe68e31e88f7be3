"""Models that other libraries run, behind the same request as our own; each library is imported when it is needed."""
