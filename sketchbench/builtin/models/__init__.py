"""Models: small networks of the literature, laid out so that top-level children are blocks."""
