"""Reports: pure functions from records to text; they need no plugin and no torch."""
