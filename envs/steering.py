"""Steering round a post."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Plane = Float[np.ndarray, "2"]


def tangent(to_post: Plane, side: float, clearance: float) -> Plane:
    """Unit direction that passes a post, `to_post` away (m), at `clearance` metres: side +1 left, -1 right.

    Nearer to the post than that it leads outwards too.
    """
    distance = float(np.linalg.norm(to_post))
    angle = np.arctan2(to_post[1], to_post[0]) + side * np.arcsin(min(1.0, clearance / distance))
    inside = max(0.0, 1.0 - distance / clearance)
    direction = np.array([np.cos(angle), np.sin(angle)]) - 2.0 * inside * to_post / distance
    return direction / np.linalg.norm(direction)
