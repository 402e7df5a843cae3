"""Workloads: the experiments that suites fill."""
