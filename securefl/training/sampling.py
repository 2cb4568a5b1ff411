"""Poisson sampling of patients (or of a hospital): who takes part in one attempt of one round.

Adversary: sees every opened sum and knows the rate, the study and its seed. It does not see who was drawn.
Promise: each unit is drawn independently of all others and of all other attempts, with a probability that is at most
    the rate. Nobody can compute or repeat a draw: it comes from the operating system, and there is no seed to give.
    (Whoever can predict the draw gets no amplification: to them the mechanism is one without sampling.)
Source: Poisson sampling as the subsampled Gaussian mechanism assumes it, Mironov, Talwar and Zhang 2019, section 2.2.

A unit is drawn if 64 uniform bits, read as an integer, are below floor(rate 2^64). So the probability falls short of
the rate by less than 2^-64, and not at all where the rate is a float64 of 2^-12 or more: it is then a multiple of
2^-64.
"""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from securefl.errors import StudyError


def poisson_sample(units: int, rate: float) -> NDArray[np.int64]:
    """Draw each of ``units`` with probability ``rate``, anew in each call.

    Args:
        units: how many there are, 0 or more.
        rate: above 0, at most 1; 1 draws all.

    Returns:
        int64, the positions drawn, ascending. There may be none.

    Raises:
        StudyError: the rate is out of range.
    """
    if not 0 < rate <= 1:
        raise StudyError(f"privacy.sampling_rate must be above 0 and at most 1, not {rate}.")
    threshold = int(Fraction(rate) * 2**64)
    if threshold == 2**64:  # a draw below it is certain, and it is no uint64
        return np.arange(units, dtype=np.int64)
    draws = np.frombuffer(os.urandom(8 * units), dtype="<u8")
    return np.flatnonzero(draws < np.uint64(threshold)).astype(np.int64)
