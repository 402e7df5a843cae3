"""Suites: a YAML file that expands to cells, with presets and claims."""

from sketchbench.suite.cells import Cell, Experiment, rebuild
from sketchbench.suite.mistakes import Mistake, SuiteError
from sketchbench.suite.suite import Suite

__all__ = ["Cell", "Experiment", "Mistake", "Suite", "SuiteError", "rebuild"]
