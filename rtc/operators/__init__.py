"""Operators: what a camera, a scanner or a missing sensor does to clean data.

```
masks      Identity, Mask                      denoising, inpainting
resample   Downsample                          super-resolution
blur       Blur                                deblurring; its kernels: gaussian, anisotropic, motion
color      Grayscale                           colourisation
sensing    Hadamard                            compressed sensing
dense      Matrix                              any matrix
compose    Compose                             one after the other
function   from_function, Nonlinear            any function of torch operations
adapters   from_deepinv, to_deepinv            deepinv's physics
base       Operator, Spectral (spectral), SVD  what to subclass for one's own; dot_test (checks) tests it
cg         conjugate_gradients                 the solver behind those that have no closed form
```

All map data [*batch, *event_in] to observations [*batch, *event_out] and have `forward, adjoint, pinv, solve,
svd`; what each may refuse is in rtc.operators.base.
"""

from __future__ import annotations

from rtc.operators.adapters import from_deepinv, to_deepinv
from rtc.operators.base import Operator
from rtc.operators.blur import Blur
from rtc.operators.cg import conjugate_gradients
from rtc.operators.checks import dot_test
from rtc.operators.color import Grayscale
from rtc.operators.compose import Compose
from rtc.operators.dense import Matrix
from rtc.operators.function import Nonlinear, from_function
from rtc.operators.kernels import anisotropic, gaussian, motion
from rtc.operators.masks import Identity, Mask
from rtc.operators.resample import Downsample
from rtc.operators.sensing import Hadamard
from rtc.operators.spectral import Spectral
from rtc.operators.svd import SVD

__all__ = [
    "SVD",
    "Blur",
    "Compose",
    "Downsample",
    "Grayscale",
    "Hadamard",
    "Identity",
    "Mask",
    "Matrix",
    "Nonlinear",
    "Operator",
    "Spectral",
    "anisotropic",
    "conjugate_gradients",
    "dot_test",
    "from_deepinv",
    "from_function",
    "gaussian",
    "motion",
    "to_deepinv",
]
