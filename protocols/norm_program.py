"""The committee's program for the norm check: shares of the projections in, one bit a hospital out. CrypTen does it.

Adversary: semi-honest, up to P-1 of the P parties together, with anyone but the dealer; they follow the program.
    Hospitals are malicious: the shares may be of any vector.
Promise: the bit of a hospital is 1 exactly if all its projections are in [-2^k, 2^k) and their squares sum to at most
    T, whatever the numbers: nothing wraps. Nothing else is opened but values under a dealer's uniform masks, so that
    the parties learn the bits alone. That a vector's norm follows from its projections is
    :mod:`protocols.norm_bounds`; what a dealer could learn or spoil is in :mod:`protocols.dealer`.
Source: CrypTen (Knott et al. 2021), section 4.2: conversion between XOR and additive shares, Beaver's AND and square.
    The check itself follows PINE (Rothblum, Omri, Chen, Talwar 2024) in range before squares.

1. A share modulo 2^w enters Z_2^64 as x 2^(64-w). Conversion to XOR shares, then every party's arithmetic shift of its
   share: a shift is linear over XOR, so that this is the signed number, exactly.
2. A number is in [-2^k, 2^k) exactly if its bits k .. 63 are equal, so if x ^ (x >> 1) has zeros in k .. 62.
3. Back to additive shares by the lowest k+1 bits alone, as (x + 2^k) - 2^k: what is out of range becomes another number
   of that range, so that m squares stay below 2^63 (a NormCheck has m 4^k < 2^63), and its hospital fails by 2.
4. The squares' sum S modulo 2^64 is the true one; S <= T is the sign of T - S, from XOR shares.
5. All conditions are words that are all ones if they hold. Their AND over the rows, and whether it is all ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.crypten_repairs import import_crypten
from protocols.errors import CommitteeError, EncodingError
from protocols.prg import ring_dtype

if TYPE_CHECKING:
    from protocols.norm_bounds import NormCheck
    from protocols.projection import Projections


def norm_verdicts(projections: Projections, check: NormCheck) -> list[bool]:
    """Which hospitals pass. Collective, over whichever communicator and provider CrypTen has.

    Args:
        projections: (K, m) of uint16, uint32 or uint64, this party's shares modulo 2^w; K, m at least 1.
        check: w, m, k and T; the same at all parties.

    Returns:
        (K,) bool, the same at all parties.

    Raises:
        ChannelError: a peer or the dealer did not answer in time, or is out of step.
        CommitteeError: the dealer refuses, or a party opened what is no bit.
        EncodingError: not shares of such projections.
    """
    _validate(projections, check)
    import torch

    crypten = import_crypten()
    primitives = crypten.mpc.primitives
    binary, arithmetic = crypten.mpc.ptype.binary, crypten.mpc.ptype.arithmetic
    k, shift = check.row_bits, 64 - check.width

    # (m, K), since rows are joined along the first axis.
    lifted = projections.T.astype(np.uint64) << np.uint64(shift)
    shared = primitives.ArithmeticSharedTensor.from_shares(
        torch.from_numpy(lifted.view(np.int64)), precision=0
    )
    x = primitives.converters.convert(shared, binary) >> shift

    outside = (1 << 63) - (1 << k)  # bits k .. 62
    in_range = ~((x ^ (x >> 1)) & outside)

    # Adding 2^k flips bit k. Precision 0: the converter multiplies by 2^16 otherwise.
    shifted = primitives.converters.convert(x ^ (1 << k), arithmetic, precision=0, bits=k + 1)
    # The primitive and not tensor.square(): with more than two parties that divides by the scale, 1, in two rounds.
    squares = primitives.beaver.square(shifted - (1 << k))
    slack = primitives.converters.convert(check.threshold - squares.sum(0), binary)
    below = ~(slack >> 63)  # all ones if T - S is not negative

    verdict = _all_ones(primitives.BinarySharedTensor.cat([in_range, below.unsqueeze(0)]))
    return _open_bit(verdict)


def sent_bytes(check: NormCheck, hospitals: int, parties: int) -> int:
    """What each party sends to the others in one check of K hospitals, without framing; D is not in it."""
    # Words to each peer: an addition of two shares is 13 ANDs of two words, and P - 1 of them convert a number.
    number = (parties - 1) * 26 + (check.row_bits + 1) + 1 + 2  # its bits, its square, its row's AND
    hospital = (parties - 1) * 26 + 12 + 1  # six ANDs of the bits, the verdict
    return 8 * (parties - 1) * hospitals * (check.rows * number + hospital)


def _all_ones(words: Any) -> Any:
    """(n, K) words -> (K,) words: 1 if a column is all ones, else 0.

    The rows are joined before the bits: one word a pair of rows and level, where comparing each row on its own would
    take six words a row.
    """
    shared = type(words)
    while words.size(0) > 1:
        half = words.size(0) // 2
        rest = [words[2 * half :]] if words.size(0) % 2 else []
        words = shared.cat([words[:half] & words[half : 2 * half], *rest])
    return words[0].eq(-1)


def _open_bit(verdict: Any) -> list[bool]:
    # Only the lowest bit leaves, under a fresh share of zero: what opens owes nothing to the shares that it came from.
    masked = (verdict ^ type(verdict).PRZS(verdict.size())) & 1
    bits = masked.reveal()
    if bool(((bits != 0) & (bits != 1)).any()):
        raise CommitteeError("A party opened something else than a verdict: run the check anew.")
    return [bool(bit) for bit in bits.tolist()]


def _validate(projections: Projections, check: NormCheck) -> None:
    if projections.ndim != 2 or projections.shape[0] < 1 or projections.shape[1] != check.rows:
        raise EncodingError(
            f"Projections are {check.rows} numbers a hospital, at least one hospital: not an array of shape "
            f"{projections.shape}."
        )
    if projections.dtype != ring_dtype(check.width):
        raise EncodingError(f"Projections are over Z_2^{check.width}, not {projections.dtype}.")
