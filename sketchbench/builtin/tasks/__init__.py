"""Tasks: real data sets, checked against their published hashes, and the losses they go with."""
