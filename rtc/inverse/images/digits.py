"""The digits prior: 28 x 28 handwritten digits, its weights and held-out digits shipped with the package.

```python
prior = digits()                     # digits(label=3): threes only; images [*batch, 1, 28, 28] in [-1, 1]
guided = guide(prior, measurement, data_std=digits_model().data_std)
truth, labels = held_out_digits()    # 200 of the 500 that training never saw, 0 .. 9 over and over
```
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from rtc.inverse.images.data import Images, read_images
from rtc.inverse.images.model import ImageModel, load_model
from rtc.prior import DenoiserPrior

HERE = Path(__file__).parent
SHIPPED = HERE / "weights" / "digits"
HELD_OUT = HERE / "held_out_digits.npz"


@lru_cache(maxsize=1)
def digits_model() -> ImageModel:
    """The shipped model, loaded once: float32, on the CPU. It is shared: move a deep copy."""
    return load_model(SHIPPED)


def digits(label: int | Int[Tensor, "*batch"] | None = None, guidance: float = 1.0) -> DenoiserPrior:
    """The shipped prior of digits [*batch, 1, 28, 28] in [-1, 1]; see ImageModel.prior for the arguments."""
    return digits_model().prior(label, guidance)


def held_out_digits() -> Images:
    """200 digits that training never saw, [200, 1, 28, 28] in [-1, 1]; their labels [200] run 0 .. 9."""
    return read_images(HELD_OUT)
