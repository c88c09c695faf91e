"""Priors with closed forms, Gaussians and Gaussian mixtures: test a method of yours on these.

What a method estimates is known here: the denoiser and its Jacobian, the score, the density at every time,
and, for y = A x1 + noise, the posterior (a prior of the same class: its denoiser is the exact conditional
one), the evidence and log p_tau(y | x).
"""

from rtc.exact.gaussian import GaussianPrior
from rtc.exact.mixture import MixturePrior

__all__ = ["GaussianPrior", "MixturePrior"]
