"""Dense baselines and controls: what every sketch is measured against."""
