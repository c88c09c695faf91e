"""Every test run checks the shapes in the signatures of the three packages, on one thread."""

from __future__ import annotations

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# Before any of the packages is imported. `typecheck.check` is beartype, set to accept an int for a float.
install_import_hook(("rtc", "policies", "envs"), "typecheck.check")

torch.set_num_threads(1)

# The machine is shared and slow at times: no deadline, and the same examples in every run.
settings.register_profile("rtc", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("rtc")
