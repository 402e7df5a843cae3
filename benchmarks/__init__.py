"""What asv follows over commits: see asv.conf.json."""
