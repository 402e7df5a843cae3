"""Metrics: what is measured (probes), judged (scores) and computed afterwards (derived)."""
