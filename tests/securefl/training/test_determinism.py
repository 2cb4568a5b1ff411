"""One thread, deterministic algorithms, and seeds that depend on names alone."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from securefl.training.determinism import ENVIRONMENT, fingerprint, seed_for

_SETTLED = """
import os, sys
from securefl.training.determinism import settle, seed_for, fingerprint
assert "torch" not in sys.modules
settle(); settle()
import torch
print(torch.get_num_threads(), torch.get_num_interop_threads(), torch.are_deterministic_algorithms_enabled(),
      os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"], seed_for(7, "round", "va", 3))
print(fingerprint())
"""


def test_a_settled_process_computes_on_one_thread():
    done = subprocess.run(
        [sys.executable, "-c", _SETTLED], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "5"},
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert first == f"1 1 True 1 1 {seed_for(7, 'round', 'va', 3)}"
    assert second == fingerprint()
    assert "torch" in second
    assert "numpy" in second


def test_known_seeds_stay_what_they_are():
    # Changing them would make every earlier study another one.
    assert seed_for(1, "round", "hospital-1", 1) == KNOWN_SEED


KNOWN_SEED = 1226338021842609661


@given(st.integers(0, 2**63 - 1), st.lists(st.text(max_size=5) | st.integers(0, 99), max_size=3))
def test_seeds_fit_torch_and_repeat(seed, names):
    first = seed_for(seed, *names)
    assert 0 <= first < 2**63
    assert seed_for(seed, *names) == first
    assert seed_for(seed, *names, "more") != first


def test_names_do_not_run_into_each_other():
    assert (
        len({seed_for(1, "ab", "c"), seed_for(1, "a", "bc"), seed_for(1, "abc"), seed_for(1, "ab", "c", "")})
        == 4
    )
    assert seed_for(1, 2) != seed_for(1, "2")
    assert seed_for(12) != seed_for(1, 2)


def test_every_library_that_makes_threads_is_told():
    assert set(ENVIRONMENT) >= {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert {ENVIRONMENT[name] for name in ENVIRONMENT if name.endswith("NUM_THREADS")} == {"1"}
