"""Inverse problems: what was measured of an image, and a prior that knows what images look like."""
