"""Guidance: a prior and a measurement make another prior; one formula, docs/math.md section 3.

x1_hat^y = x1_hat + C A^T (A S A^T + noise_variance I)^-1 (y - A x1_hat). A method is a choice of C and S;
G = (sigma^2 / alpha) J^T costs VJPs through the prior, S models the covariance of x1 given x:

| file          | C            | S                     | methods                                             |
|---------------|--------------|-----------------------|-----------------------------------------------------|
| pigdm.py      | G            | r2 I                  | pigdm, and RTC (clipped, with a soft mask): guide   |
| tweedie.py    | G            | (sigma^2 / alpha) J   | tweedie, mmps, tmpd                                 |
| likelihood.py | G            | 0, or r2 I by draws   | likelihood_guidance, DPS, LGD                       |
| proximal.py   | variance I   | variance I            | prox, ddnm, DiffPIR, Flower; mpgd                   |
| langevin.py   | rho^2 I      | rho^2 on values of y  | AnnealedLangevin (NCSN, Score-ALD): residual of x   |

A function prior -> prior (lower case) guides the estimate, and any solver steps with it; a Solver (upper
case) is a method that acts on the step itself. pullback.py, misfit.py and systems.py are what they share.
Guidance by a classifier is in likelihood.py too, without one (classifier-free) in rtc/prior.py.
"""
