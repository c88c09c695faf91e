"""Particle methods: many weighted chains of one prior, whose weights make an approximate posterior exact.

They are for one observation; `num_particles` chains share each call of the network.
"""

from rtc.inverse.particles.filtering import fps
from rtc.inverse.particles.mcgdiff import mcgdiff
from rtc.inverse.particles.smc import Particles
from rtc.inverse.particles.twisted import bootstrap, importance_sampling, tds

__all__ = ["Particles", "bootstrap", "fps", "importance_sampling", "mcgdiff", "tds"]
