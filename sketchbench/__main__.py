"""`python -m sketchbench` is the command line."""

from sketchbench.cli import main

main()
