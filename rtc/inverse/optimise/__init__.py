"""Inverse problems by optimisation: one file for each method, each a whole procedure with its own loop."""
