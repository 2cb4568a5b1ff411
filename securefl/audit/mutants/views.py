"""Mutants whose views a trained distinguisher tells from simulated ones, and one input from another by.

The attacker is all parties but one with the coordinator. It learns from views whose origin it knows, and guesses those
of others: see ``securefl.audit.distinguisher``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from protocols.prg import RingVector, new_seed
from securefl.audit import distinguisher
from securefl.audit.distinguisher import SEED_BITS, SIZE, Masking, mask_of, public_seed
from securefl.audit.registry import Finding, Mutant

WELL_ABOVE = 0.9
"""The accuracy that a distinguisher must reach on a protocol that leaks."""

Rest = Callable[[RingVector, bytes], RingVector]


def short_seeds() -> Rest:
    """Each mask from a fresh seed of few bits."""
    return lambda x, context: x - mask_of(secrets.randbits(SEED_BITS).to_bytes(32, "big"), context)


def one_scalar() -> Rest:
    """Each mask one number, added to every coordinate."""
    return lambda x, context: x - mask_of(new_seed(), context)[0]


def one_mask_for_a_study() -> Rest:
    """One seed for the study, expanded in the same way every time."""
    seed = new_seed()
    return lambda x, _context: x - mask_of(seed, b"study")


def keys_of_the_server() -> Rest:
    """Each mask from a key that the server makes for hospital and party, of what it knows."""
    return lambda x, context: x - mask_of(public_seed(context), context)


def half_a_mask() -> Rest:
    """Masks of 16 bits for elements of 32."""
    return lambda x, context: x - (mask_of(new_seed(), context) & 0xFFFF)


def _breaks(masking: Masking) -> Finding:
    simulator, inputs = distinguisher.games(masking)
    said = f"It tells real from simulated views in {simulator:.0%} of the cases, and two inputs apart in {inputs:.0%}."
    return Finding(min(simulator, inputs) >= WELL_ABOVE, said, _numbers(simulator, inputs))


def _caught() -> Finding:
    simulator, inputs = distinguisher.games(distinguisher.shipped)
    most = distinguisher.likely()
    said = (
        f"It guesses right in {simulator:.1%} and {inputs:.1%} of the cases; coins are better than {most:.1%} once in "
        "10^9."
    )
    return Finding(max(simulator, inputs) <= most, said, _numbers(simulator, inputs) | {"likely": most})


def _numbers(simulator: float, inputs: float) -> dict[str, float]:
    return {"real_or_simulated": simulator, "which_input": inputs, "views": distinguisher.TESTS, "size": SIZE}


def _mutant(name: str, changed: str, masking: Masking) -> Mutant:
    return Mutant(name, "view-is-simulated", changed, lambda: _breaks(masking), _caught)


MUTANTS = (
    _mutant(
        "seed-of-32-bits",
        f"Masks come from seeds of few bits: here {SEED_BITS}, in published code 32.",
        short_seeds,
    ),
    _mutant("scalar-mask", "A mask is one number, added to every coordinate.", one_scalar),
    _mutant("mask-of-a-study", "One mask serves all rounds and hospitals of a study.", one_mask_for_a_study),
    _mutant(
        "server-rebuilds-keys", "The server can make every mask's key from what it knows.", keys_of_the_server
    ),
    _mutant("half-a-mask", "A mask of 16 bits is added to elements of 32.", half_a_mask),
)
