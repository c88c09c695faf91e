"""Guidance: a prior and a measurement make another prior (clipped, weighted PiGDM).

Real-time chunking is the case A = I. Sources: Song et al. 2023 (PiGDM); Pokle et al. 2024 (on flows);
Black et al. 2025, eqs. 2-4 (the clip and the mask).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.pullback import denoise_and_vjp, graph_only_for
from rtc.measurement import Measurement
from rtc.path import STRAIGHT, Path, Time, log_snr_rate, spread, wronskian
from rtc.prior import Prior, from_denoiser

JACOBIANS = ("exact", "identity")


def r2(tau: Time, data_std: float = 1.0, path: Path = STRAIGHT) -> Time:
    """Variance of x1 given x at tau, for data of variance v = data_std^2: sigma^2 v / (sigma^2 + alpha^2 v).

    It falls from v (nothing known) to 0 (all known). Source: Black et al. 2025, eq. 4, has data_std = 1.
    """
    alpha2, sigma2, v = path.alpha(tau) ** 2, path.sigma(tau) ** 2, data_std**2
    return sigma2 * v / (sigma2 + alpha2 * v)


def guidance_weight(tau: Time, max_weight: float, data_std: float = 1.0, path: Path = STRAIGHT) -> Time:
    """The factor of J^T pull in the guided velocity: min(max_weight, sigma^2 lambda_dot / r2).

    On the OT path min(max_weight, (1 - tau) / (tau r2)), and so max_weight at tau = 0 and 1, where the other
    is infinite. Written as lambda_dot (alpha^2 + sigma^2 / v), in which nothing cancels.
    A float for a float tau, else a tensor shaped like tau. Source: Black et al. 2025, eq. 2.
    """
    weight = log_snr_rate(path, tau) * (path.alpha(tau) ** 2 + path.sigma(tau) ** 2 / data_std**2)
    return weight.clamp(max=max_weight) if isinstance(weight, Tensor) else min(weight, max_weight)


def guide(
    prior: Prior,
    measurement: Measurement,
    *,
    max_weight: float | str,
    num_steps: int | None = None,
    jacobian: str = "exact",
    data_std: float = 1.0,
) -> Prior:
    """The prior given a measurement: denoise = x1_hat + (guidance_weight / k1) J^T pull(x1_hat, r2).

    J = d x1_hat / d x is the network's own Jacobian; k1 = alpha lambda_dot turns a shift of the velocity into
    one of x1_hat (on OT 1 / k1 = 1 - tau). A call costs one forward and, unless jacobian="identity", one VJP.

    max_weight: beta >= 0, clips the weight (paper: 5). "steps" is beta = num_steps: the prefix error then
        vanishes as steps are added, as it does with no fixed beta. math.inf is PiGDM unclipped; where the
        weight itself is infinite (tau = 0 on OT, where an exact prior has J = 0) nothing is added.
    num_steps: flow steps of the sampler, read with max_weight="steps" only.
    jacobian: "exact", or "identity" for J = I: no VJP, and the correction stays on the measured values.
    data_std: > 0, standard deviation of the prior's data (for a policy: of its chunks given one observation).

    Leaves no autograd graph, unless x itself requires a gradient. Raises InvalidArgument for other values.
    """
    beta = _beta(max_weight, num_steps)
    if jacobian not in JACOBIANS:
        raise InvalidArgument(f"jacobian is {jacobian!r}; choose one of {', '.join(JACOBIANS)}.")
    check_data_std(data_std)
    path = prior.path

    def denoise(x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        gain, variance = spread(_gain(path, tau, beta, data_std), x), spread(r2(tau, data_std, path), x)
        with graph_only_for(x):
            if jacobian == "identity":
                x1_hat = prior.denoise(x, tau)
                return x1_hat + gain * measurement.pull(x1_hat, variance)
            x1_hat, pullback = denoise_and_vjp(prior, x, tau)
            return x1_hat + gain * pullback(measurement.pull(x1_hat, variance))

    return from_denoiser(denoise, path)


def pigdm(prior: Prior, measurement: Measurement, *, data_std: float = 1.0) -> Prior:
    """x1_hat + (sigma^2 / (alpha r2)) J^T pull(x1_hat, r2): `guide` with nothing clipped, by its own name.

    Without noise pull is A^+ (y - A x1_hat). data_std: > 0, standard deviation of the prior's data; with the
    paper's 1 for data of another scale it goes wrong, even diverges. 1 forward and 1 VJP a call.
    Source: Song et al. 2023 (PiGDM), eq. 7.
    """
    return guide(prior, measurement, max_weight=math.inf, data_std=data_std)


def _gain(path: Path, tau: Time, beta: float, data_std: float) -> Time:
    """guidance_weight / k1, where 1 / k1 = sigma / wronskian is always finite; 0 where the weight is not."""
    weight, inverse_k1 = guidance_weight(tau, beta, data_std, path), path.sigma(tau) / wronskian(path, tau)
    if isinstance(weight, Tensor):
        return torch.where(weight.isinf(), 0.0, weight * inverse_k1)
    return 0.0 if math.isinf(weight) else weight * inverse_k1


def check_data_std(data_std: float) -> None:
    """Raise InvalidArgument unless 0 < data_std < infinity."""
    if not 0.0 < data_std < math.inf:
        raise InvalidArgument(f"data_std is {data_std}; a standard deviation is a positive number.")


def _beta(max_weight: float | str, num_steps: int | None) -> float:
    if max_weight == "steps":
        if num_steps is None or num_steps < 1:
            raise InvalidArgument(
                f'max_weight="steps" is beta = num_steps, but num_steps is {num_steps}; '
                "give the number of steps that the sampler takes, at least 1."
            )
        return float(num_steps)
    if isinstance(max_weight, str) or not max_weight >= 0.0:
        raise InvalidArgument(
            f'max_weight is {max_weight!r}; it must be a number >= 0 (paper: 5) or "steps".'
        )
    return float(max_weight)
