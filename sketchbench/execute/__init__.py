"""Cells in, records out: each pass of a cell is a child process of its own."""
