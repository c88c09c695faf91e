"""Every method by name, and which of them can use a measurement."""

from __future__ import annotations

import torch

from rtc.errors import InvalidArgument, Unsupported
from rtc.guidance.likelihood import DPS
from rtc.guidance.pigdm import pigdm
from rtc.guidance.proximal import DiffPIR, Flower, mpgd
from rtc.guidance.tweedie import mmps, tmpd, tweedie
from rtc.inverse.methods import runs
from rtc.inverse.methods.problem import NEEDS, Method
from rtc.inverse.optimise.red_diff import red_diff
from rtc.inverse.particles import bootstrap, fps, importance_sampling, mcgdiff, tds
from rtc.inverse.pokle import algorithm_1, algorithm_2, algorithm_3
from rtc.inverse.replacement import ccdf, ddnm, ilvr, score_sde
from rtc.inverse.spectral import ddnm_plus, ddrm
from rtc.measurement import LinearMeasurement, NonlinearOperator

METHODS: dict[str, Method] = {
    "pigdm": Method(
        family="guidance",
        source="Song et al. 2023",
        needs="",
        noise="exact",
        calls="1 + 1 VJP",
        knobs={"eta": 1.0},
        run=runs.guided(lambda p: pigdm(p.prior, p.measurement, data_std=p.data_std)),
    ),
    "tmpd": Method(
        family="guidance",
        source="Boys et al. 2023",
        needs="",
        noise="exact",
        calls="1 + 2 VJP",
        knobs={"eta": 1.0},
        run=runs.guided(lambda p: tmpd(p.prior, p.measurement)),
    ),
    "mmps": Method(
        family="guidance",
        source="Rozet et al. 2024",
        needs="",
        noise="exact",
        calls="1 + (iterations + 1) VJP",
        knobs={"eta": 1.0, "iterations": 3},
        run=runs.guided(lambda p, iterations: mmps(p.prior, p.measurement, iterations=iterations)),
    ),
    "tweedie": Method(
        family="guidance",
        source="Boys et al. 2023",
        needs="",
        noise="exact",
        calls="1 + many VJP",
        knobs={"eta": 1.0},
        run=runs.guided(lambda p: tweedie(p.prior, p.measurement)),
    ),
    "pokle-1": Method(
        family="guidance",
        source="Pokle et al. 2024",
        needs="linear",
        noise="exact",
        calls="1 + 1 VJP",
        knobs={"tau0": 0.2, "gamma": 1.0},
        run=runs.whole(algorithm_1, data_std=True),
    ),
    "pokle-2": Method(
        family="guidance",
        source="Pokle et al. 2024",
        needs="linear",
        noise="exact",
        calls="1 + 1 VJP",
        knobs={"tau0": 0.2, "gamma": 1.0},
        run=runs.on_vp(algorithm_2),
    ),
    "pokle-3": Method(
        family="guidance",
        source="Pokle et al. 2024 (OT-ODE)",
        needs="linear",
        noise="exact",
        calls="1 + 1 VJP",
        knobs={"tau0": 0.2, "gamma": 1.0},
        run=runs.whole(algorithm_3, data_std=True),
    ),
    "dps": Method(
        family="guidance",
        source="Chung et al. 2023",
        needs="",
        noise="knob",
        calls="1 + 1 VJP",
        knobs={"zeta": 1.0, "misfit": "norm", "eta": 1.0},
        run=runs.stepped(lambda p, zeta, misfit, eta: DPS(p.measurement, zeta, misfit, eta)),
    ),
    "lgd": Method(
        family="guidance",
        source="Song et al. 2023 (ICML)",
        needs="",
        noise="knob",
        calls="1 + 1 VJP",
        knobs={"zeta": 1.0, "draws": 10, "eta": 1.0},
        run=runs.stepped(
            lambda p, zeta, draws, eta: DPS(p.measurement, zeta, "norm", eta, draws, p.data_std)
        ),
    ),
    "mpgd": Method(
        family="proximal",
        source="He et al. 2024",
        needs="",
        noise="knob",
        calls="1",
        knobs={"step": 1.0, "misfit": "norm", "eta": 1.0},
        run=runs.guided(lambda p, step, misfit: mpgd(p.prior, p.measurement, step=step, misfit=misfit)),
    ),
    "diffpir": Method(
        family="proximal",
        source="Zhu et al. 2023",
        needs="",
        noise="exact",
        calls="1",
        knobs={"lam": 7.0, "zeta": 0.3},
        run=runs.stepped(lambda p, lam, zeta: DiffPIR(p.measurement, lam, zeta)),
    ),
    "flower": Method(
        family="proximal",
        source="Pourya et al. 2026",
        needs="linear",
        noise="exact",
        calls="1",
        knobs={"gamma": 0.0},
        run=runs.stepped(lambda p, gamma: Flower(p.measurement, p.data_std, gamma)),
    ),
    "score-ald": Method(
        family="proximal",
        source="Jalal et al. 2021",
        needs="",
        noise="exact",
        calls="1",
        knobs={"step": 0.1, "steps": 5},
        run=runs.run_langevin,
    ),
    "ddnm": Method(
        family="proximal",
        source="Wang et al. 2023",
        needs="linear",
        noise="ignored",
        calls="1",
        knobs={"eta": 0.85, "jump": 1, "repeats": 1},
        run=runs.whole(ddnm),
    ),
    "ddnm-plus": Method(
        family="spectral",
        source="Wang et al. 2023",
        needs="linear svd",
        noise="exact",
        calls="1",
        knobs={"eta": 0.85, "jump": 1, "repeats": 1},
        run=runs.whole(ddnm_plus),
    ),
    "ddrm": Method(
        family="spectral",
        source="Kawar et al. 2022",
        needs="linear svd",
        noise="exact",
        calls="1",
        knobs={"eta": 0.85, "eta_b": 1.0},
        run=runs.whole(ddrm),
    ),
    "score-sde": Method(
        family="replacement",
        source="Song et al. 2021",
        needs="linear",
        noise="ignored",
        calls="1",
        knobs={"solver": "ddpm"},
        run=runs.whole(score_sde),
    ),
    "ilvr": Method(
        family="replacement",
        source="Choi et al. 2021",
        needs="linear",
        noise="ignored",
        calls="1",
        knobs={"stop": 0.8},
        run=runs.whole(ilvr),
    ),
    "repaint": Method(
        family="replacement",
        source="Lugmayr et al. 2022",
        needs="linear",
        noise="ignored",
        calls="1, some walked again",
        knobs={"jump": 5, "repeats": 2},
        run=runs.run_repaint,
    ),
    "ccdf": Method(
        family="replacement",
        source="Chung et al. 2022",
        needs="linear",
        noise="ignored",
        calls="1",
        knobs={"tau0": 0.5},
        run=runs.whole(ccdf),
    ),
    "red-diff": Method(
        family="optimisation",
        source="Mardani et al. 2024",
        needs="linear",
        noise="knob",
        calls="1",
        knobs={"prior_weight": 0.25, "learning_rate": 0.1},
        run=runs.whole(red_diff),
    ),
    "d-flow": Method(
        family="optimisation",
        source="Ben-Hamu et al. 2024",
        needs="",
        noise="knob",
        calls="2 flow_steps + as many VJP, an iteration",
        knobs={"flow_steps": 5, "noise_weight": 0.01, "blend": 0.1},
        run=runs.run_d_flow,
    ),
    "flow-priors": Method(
        family="optimisation",
        source="Zhang et al. 2024",
        needs="",
        noise="knob",
        calls="1 + iterations, with double VJP",
        knobs={"iterations": 1, "data_weight": 1e3, "learning_rate": 0.01},
        run=runs.run_flow_priors,
    ),
    "pnp-flow": Method(
        family="optimisation",
        source="Martin et al. 2025",
        needs="",
        noise="knob",
        calls="draws",
        knobs={"draws": 5, "learning_rate": 1.0, "decay": 1.0},
        run=runs.run_pnp_flow,
    ),
    "daps": Method(
        family="optimisation",
        source="Zhang et al. 2025",
        needs="noise",
        noise="knob",
        calls="ode_steps",
        knobs={"ode_steps": 5},
        run=runs.run_daps,
    ),
    "importance": Method(
        family="particles",
        source="Kloek & van Dijk 1978",
        needs="noise",
        noise="exact",
        calls="particles",
        knobs={},
        run=runs.particles(importance_sampling),
    ),
    "bootstrap": Method(
        family="particles",
        source="Gordon et al. 1993",
        needs="noise",
        noise="exact",
        calls="particles",
        knobs={"twist": "none"},
        run=runs.particles(bootstrap, data_std=True),
    ),
    "tds": Method(
        family="particles",
        source="Wu et al. 2023",
        needs="noise",
        noise="exact",
        calls="particles (1 + 1 VJP)",
        knobs={"twist": "pigdm"},
        run=runs.particles(tds, data_std=True),
    ),
    "fps": Method(
        family="particles",
        source="Dou & Song 2024",
        needs="linear noise",
        noise="exact",
        calls="particles",
        knobs={"freshness": 0.95},
        run=runs.particles(fps),
    ),
    "mcgdiff": Method(
        family="particles",
        source="Cardoso et al. 2024",
        needs="linear svd noise",
        noise="exact",
        calls="particles",
        knobs={"eta": 1.0},
        run=runs.particles(mcgdiff, preserving=True),
    ),
}
"""The methods by name. Knobs have the papers' values; where those count a paper's own steps, round ones."""


def abilities(measurement: LinearMeasurement) -> set[str]:
    """The keys of NEEDS that a measurement meets."""
    found = set()
    if torch.all(torch.as_tensor(measurement.noise_variance) > 0.0):
        found.add("noise")
    if isinstance(measurement.operator, NonlinearOperator):
        return found
    found.add("linear")
    decompose = getattr(measurement.operator, "svd", None)
    if decompose is not None:
        try:
            decompose()
        except Unsupported:
            return found
        found.add("svd")
    return found


def usable(measurement: LinearMeasurement) -> list[str]:
    """The names of the methods that can use a measurement."""
    found = abilities(measurement)
    return [name for name, method in METHODS.items() if set(method.needs.split()) <= found]


def named_method(name: str, measurement: LinearMeasurement) -> Method:
    """The method of that name, for that measurement.

    Raises InvalidArgument for an unknown name, and Unsupported, naming those that can, if it cannot use it.
    """
    if name not in METHODS:
        raise InvalidArgument(f"there is no method {name!r}; choose from {', '.join(METHODS)}.")
    method = METHODS[name]
    missing = set(method.needs.split()) - abilities(measurement)
    if missing:
        wanted = " and ".join(NEEDS[need] for need in sorted(missing))
        raise Unsupported(
            f"{name} needs {wanted}, which this measurement has not ({measurement.operator!r}); "
            f"these can use it: {', '.join(usable(measurement))}."
        )
    return method
