"""Guidance: a prior and a measurement make another prior. One file for each model of the covariance."""
