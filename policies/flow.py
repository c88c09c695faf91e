"""A flow-matching policy: observations in, a prior over chunks of actions out; one folder holds all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float
from torch import Tensor, nn

from policies.mixer import Mixer
from policies.transformer import Transformer
from policies.vision import ImageEncoder
from rtc.errors import CheckpointError, InvalidArgument, Unsupported
from rtc.path import Time
from rtc.prefix import Prefix
from rtc.prior import Prior, from_denoiser, from_velocity

FORMAT = 1  # of checkpoints; a policy that an older rtc cannot read gets a new number
NETWORKS = ("mixer", "transformer")

Observation: TypeAlias = Tensor | Mapping[str, Tensor]
"""A state [batch, obs_dim], [batch, history, obs_dim] with a history above 1; for a policy with cameras
{"state": that, "<camera>": uint8 [batch, image_size, image_size, 3]}."""


class FlowPolicy(nn.Module, PyTorchModelHubMixin):
    """p(chunk | obs) as a flow from noise to actions (Lipman et al. 2023), with its normalisation inside.

    Observations are raw; the prior is over normalised chunks [batch, horizon, action_dim]; `normalize` and
    `denormalize` convert actions at the border. `save_pretrained(folder)` writes config.json and
    model.safetensors, `from_pretrained(folder)` reads them; neither needs a network.

    network: "mixer" or "transformer"; row_hidden is the mixer's. max_delay: above 0 for a policy trained on
    prefixes of 0..max_delay committed rows (training-time RTC, Black et al. 2025, arXiv 2512.05964).
    history: observations that it looks back on, the present one last. cameras: whose images it sees.
    obs_dropout: part of the observations left out in training, for an unconditional prior (Ho & Salimans
    2022). format: of the checkpoint. Raises InvalidArgument for values out of range, CheckpointError for a
    format from the future.
    """

    def __init__(
        self,
        task: str,
        obs_dim: int,
        action_dim: int,
        horizon: int = 16,
        channels: int = 96,
        row_hidden: int = 48,
        channel_hidden: int = 192,
        blocks: int = 3,
        action_low: Sequence[float] | float = -1.0,
        action_high: Sequence[float] | float = 1.0,
        network: str = "mixer",
        max_delay: int = 0,
        history: int = 1,
        cameras: Sequence[str] = (),
        image_size: int = 96,
        obs_dropout: float = 0.0,
        format: int = FORMAT,
    ) -> None:
        super().__init__()
        _check(horizon, network, max_delay, history, obs_dropout, format)
        self.task = task
        self.obs_dim = obs_dim
        self.action_dim = action_dim
        self.horizon = horizon
        self.max_delay = max_delay
        self.history = history
        self.image_size = image_size
        self.obs_dropout = obs_dropout
        self.images = ImageEncoder(cameras, channels) if cameras else None
        size = (history * obs_dim, action_dim, horizon, channels)
        tokens = self.images.tokens if self.images else 0
        if network == "mixer":
            self.network = Mixer(*size, row_hidden, channel_hidden, blocks, tokens)
        else:
            self.network = Transformer(*size, channel_hidden, blocks)
        self.nothing = nn.Parameter(torch.zeros(channels)) if obs_dropout else None
        # limits are arguments, kept in config.json: not among the weights, but moved with them
        self.register_buffer("action_low", torch.as_tensor(action_low), persistent=False)
        self.register_buffer("action_high", torch.as_tensor(action_high), persistent=False)
        self.register_buffer("obs_mean", torch.zeros(obs_dim))
        self.register_buffer("obs_std", torch.ones(obs_dim))
        self.register_buffer("action_mean", torch.zeros(action_dim))
        self.register_buffer("action_std", torch.ones(action_dim))

    obs_mean: Tensor
    obs_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    action_low: Tensor
    action_high: Tensor

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras whose images it sees, in order."""
        return self.images.cameras if self.images else ()

    def fit_normalisation(
        self, obs: Float[Tensor, "*n obs_dim"], chunks: Float[Tensor, "n horizon action_dim"]
    ) -> None:
        """Take means and standard deviations from data; every row of the chunk shares its action's."""
        obs = obs.flatten(0, -2)
        self.obs_mean.copy_(obs.mean(0))
        self.obs_std.copy_(obs.std(0).clamp_min(1e-3))
        self.action_mean.copy_(chunks.mean((0, 1)))
        self.action_std.copy_(chunks.std((0, 1)).clamp_min(1e-3))

    def encode(self, obs: Observation) -> Float[Tensor, "batch tokens channels"]:
        """What the network needs of raw observations, once per chunk. Raises InvalidArgument for others."""
        state, images = self._parts(obs)
        state = ((state - self.obs_mean) / self.obs_std).flatten(1)
        features = self.images(images) if self.images else None
        if len(state) > 1:
            return self.network.encode(state, features)
        # A matrix times a single vector rounds otherwise than times many, and an episode must not depend on
        # how many others are simulated with it: alone, an observation is encoded as one of two.
        twice = None if features is None else features.repeat(2, 1, 1)
        return self.network.encode(state.repeat(2, 1), twice)[:1]

    def _parts(self, obs: Observation) -> tuple[Tensor, list[Tensor]]:
        parts = obs if isinstance(obs, Mapping) else {"state": obs}
        side, one = self.image_size, (self.obs_dim,) if self.history == 1 else (self.history, self.obs_dim)
        expected = {"state": one} | {camera: (side, side, 3) for camera in self.cameras}
        given = {name: tuple(parts[name].shape[1:]) for name in expected if name in parts}
        if given != expected:
            raise InvalidArgument(
                f"the observation has {_shapes({name: tuple(v.shape[1:]) for name, v in parts.items()})}; "
                f"this policy of {self.task} takes {_shapes(expected)}"
            )
        return parts["state"], [parts[camera] for camera in self.cameras]

    def velocity(
        self,
        x: Float[Tensor, "batch horizon action_dim"],
        tau: Float[Tensor, "*times"],
        context: Float[Tensor, "batch tokens channels"],
    ) -> Float[Tensor, "batch horizon action_dim"]:
        """v(x, tau | obs) for normalised chunks; one tau [1], one each [batch], or [batch, horizon]."""
        return self.network(x, tau, context)

    def condition(self, obs: Observation, prefix: Prefix | None = None) -> Prior:
        """The prior over normalised chunks for these observations; encodes them once for all flow steps.

        prefix: rows that are committed; they stand in every estimate as they are given, and the others are
        estimated knowing them. Raises Unsupported for a prefix that the policy was not trained on,
        InvalidArgument for one that is too long.
        """
        return self._prior(self.encode(obs), prefix)

    def unconditional(self, batch: int, prefix: Prefix | None = None) -> Prior:
        """The prior over `batch` normalised chunks without an observation: `classifier_free`'s other half.

        Raises Unsupported for a policy that never went without.
        """
        if self.nothing is None:
            raise Unsupported(
                f"this policy of {self.task} was never trained without observations; "
                "train one with `rtc train --obs-dropout 0.1`"
            )
        return self._prior(self.nothing.expand(batch, 1, -1), prefix)

    def _prior(self, context: Tensor, prefix: Prefix | None) -> Prior:
        def field(x: Tensor, tau: Time) -> Tensor:
            return self.velocity(x, torch.as_tensor(tau, dtype=x.dtype, device=x.device).reshape(-1), context)

        if prefix is None:
            return from_velocity(field)
        self._check_prefix(prefix)
        committed = prefix.committed

        def denoise(x: Tensor, tau: Time) -> Tensor:
            times = torch.as_tensor(tau, dtype=x.dtype, device=x.device).reshape(-1, 1)
            times = torch.where(committed, 1.0, times)
            x = torch.where(committed[..., None], prefix.actions, x)
            # where tau = 1 the estimate is the point itself, to the bit
            return x + (1 - times)[..., None] * self.velocity(x, times, context)

        return from_denoiser(denoise)

    def _check_prefix(self, prefix: Prefix) -> None:
        longest = int(prefix.delay.max())
        if self.max_delay == 0:
            raise Unsupported(
                f"this policy of {self.task} was not trained on prefixes; "
                "train one with `rtc train --max-delay 8`, or guide it (strategy realtime)"
            )
        if longest > self.max_delay or int(prefix.delay.min()) < 0:
            raise InvalidArgument(
                f"the prefix has {prefix.delay.tolist()} rows; this policy was trained on "
                f"0..{self.max_delay} (`rtc train --max-delay {max(longest, 1)}` makes one for more)"
            )

    def normalize(self, actions: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Actions of the environment -> units of the prior."""
        return (actions - self.action_mean) / self.action_std

    def denormalize(self, actions: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Units of the prior -> actions of the environment, clipped to its range: what will be executed."""
        return (actions * self.action_std + self.action_mean).clamp(self.action_low, self.action_high)


def _check(horizon: int, network: str, max_delay: int, history: int, obs_dropout: float, format: int) -> None:
    if format > FORMAT:
        raise CheckpointError(
            f"format {format} was written by a newer version of rtc; "
            f"this one reads up to {FORMAT}: upgrade rtc"
        )
    if network not in NETWORKS:
        raise InvalidArgument(f"network={network!r}; choose from {', '.join(NETWORKS)}")
    if not 0 <= max_delay < horizon:
        raise InvalidArgument(
            f"max_delay={max_delay}; it must be 0..{horizon - 1}, rows of a chunk of {horizon}"
        )
    if history < 1:
        raise InvalidArgument(f"history={history}; it must be at least 1, the present observation")
    if not 0.0 <= obs_dropout < 1.0:
        raise InvalidArgument(f"obs_dropout={obs_dropout}; it must be in [0, 1)")


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {['batch', *shape]}".replace("'", "") for name, shape in shapes.items())
