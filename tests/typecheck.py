"""The runtime type checker that conftest.py puts on every signature."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# PEP 484's numeric tower: where a float is asked for, an int is one (`max_weight=5`).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
