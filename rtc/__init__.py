"""Real-time execution of action chunks, and image restoration, by one guidance through the network.

A **prior** estimates clean data from a noisy point on a Gaussian path. A **measurement** says how an estimate
should move. **Guidance** takes both and returns another prior. A **sampler** integrates any prior. The
**controller** runs the chunks that come out while the next one is still being thought of.

```
path         Path, OT, VP, VE, Cosine, Table, ddpm
prior        Prior, from_velocity, from_denoiser, from_gaussian_denoiser, from_eps, from_score, on,
             classifier_free
exact        GaussianPrior, MixturePrior                priors whose every answer is known
measurement  Measurement, SoftMask, LinearMeasurement, Energy
operators    rtc.operators                              masks, blurs, reductions, any function
guidance     guide, guidance_weight                     rtc.guidance has the whole family
sample       sample, integrate
inverse      rtc.inverse                                replacement, spectral, particles, optimisation
runtime      prefix_weights                         weights of a soft mask over a chunk
             FlowPolicy, Strategy, make_strategy    observation -> chunk
             ChunkController, State, Request        the state machine
             rollout, Episode                       the control loop
errors       RtcError and its kin                   the tree is drawn in rtc/errors.py
```
"""

from __future__ import annotations

from rtc.errors import (
    CheckpointError,
    DatasetError,
    IllegalEvent,
    InvalidArgument,
    OutputExists,
    RenderUnavailable,
    RtcError,
    Unsupported,
)
from rtc.exact import GaussianPrior, MixturePrior
from rtc.guidance.pigdm import guidance_weight, guide
from rtc.measurement import Energy, LinearMeasurement, Measurement, SoftMask
from rtc.path import OT, VE, VP, Cosine, Path
from rtc.prior import (
    Prior,
    classifier_free,
    from_denoiser,
    from_eps,
    from_gaussian_denoiser,
    from_score,
    from_velocity,
    on,
)
from rtc.runtime.controller import ChunkController, Request, State
from rtc.runtime.episode import Episode
from rtc.runtime.mask import prefix_weights
from rtc.runtime.rollout import rollout
from rtc.runtime.strategies import FlowPolicy, Strategy, make_strategy
from rtc.sample import integrate, sample
from rtc.table import Table, ddpm

__version__ = "0.1.0"

__all__ = [
    "OT",
    "VE",
    "VP",
    "CheckpointError",
    "ChunkController",
    "Cosine",
    "DatasetError",
    "Energy",
    "Episode",
    "FlowPolicy",
    "GaussianPrior",
    "IllegalEvent",
    "InvalidArgument",
    "LinearMeasurement",
    "Measurement",
    "MixturePrior",
    "OutputExists",
    "Path",
    "Prior",
    "RenderUnavailable",
    "Request",
    "RtcError",
    "SoftMask",
    "State",
    "Strategy",
    "Table",
    "Unsupported",
    "__version__",
    "classifier_free",
    "ddpm",
    "from_denoiser",
    "from_eps",
    "from_gaussian_denoiser",
    "from_score",
    "from_velocity",
    "guidance_weight",
    "guide",
    "integrate",
    "make_strategy",
    "on",
    "prefix_weights",
    "rollout",
    "sample",
]
