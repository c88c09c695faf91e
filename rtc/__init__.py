"""Real-time execution of action chunks: a prior, a measurement, guidance, a sampler, a controller.

A **prior** estimates clean data from a noisy point on a Gaussian path. A **measurement** says how an estimate
should move. **Guidance** takes both and returns another prior. A **sampler** integrates any prior. The
**controller** runs the chunks that come out while the next one is still being thought of.

```
path         Path, OT
prior        Prior, from_velocity
measurement  Measurement, SoftMask
guidance     guide, guidance_weight
sample       sample
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
)
from rtc.guidance.pigdm import guidance_weight, guide
from rtc.measurement import Measurement, SoftMask
from rtc.path import OT, Path
from rtc.prior import Prior, from_velocity
from rtc.runtime.controller import ChunkController, Request, State
from rtc.runtime.episode import Episode
from rtc.runtime.mask import prefix_weights
from rtc.runtime.rollout import rollout
from rtc.runtime.strategies import FlowPolicy, Strategy, make_strategy
from rtc.sample import sample

__version__ = "0.1.0"

__all__ = [
    "OT",
    "CheckpointError",
    "ChunkController",
    "DatasetError",
    "Episode",
    "FlowPolicy",
    "IllegalEvent",
    "InvalidArgument",
    "Measurement",
    "OutputExists",
    "Path",
    "Prior",
    "RenderUnavailable",
    "Request",
    "RtcError",
    "SoftMask",
    "State",
    "Strategy",
    "__version__",
    "from_velocity",
    "guidance_weight",
    "guide",
    "make_strategy",
    "prefix_weights",
    "rollout",
    "sample",
]
