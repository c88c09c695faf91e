"""Delay models for tests, as texts: beartype, which checks the constructors, draws from the `random` that
hypothesis watches, so a model is built in the test and not while hypothesis draws."""

from __future__ import annotations

from hypothesis import strategies as st

ticks = st.integers(0, 12)
chances = st.floats(0, 1)
pairs = st.tuples(ticks, ticks).map(sorted)
positive = st.floats(0.01, 1)

delay_texts = st.one_of(
    ticks.map(str),
    pairs.map(lambda pair: f"uniform:{pair[0]}:{pair[1]}"),
    st.tuples(st.floats(0.1, 12), st.floats(0, 1)).map(lambda law: f"lognormal:{law[0]}:{law[1]}"),
    st.tuples(pairs, chances).map(lambda law: f"spiky:{law[0][0]}:{law[0][1]}:{law[1]}"),
    st.tuples(pairs, positive, chances).map(lambda law: f"bursty:{law[0][0]}:{law[0][1]}:{law[1]}:{law[2]}"),
)
"""The text of any random or constant model, of a dozen ticks at most (the log-normal one: mostly)."""
