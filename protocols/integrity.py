"""The hospitals check the opened sum against parties that lie.

Adversary: all parties together, with the coordinator, the network and every hospital that is not included; they choose
    the sum that they sign as they like. For privacy besides: any included hospitals.
Promise: soundness: a sum other than that of the included hospitals' updates passes with probability at most 2^-60, if
    each of them answers for the update that it sent, and one of them has told nobody its coin before it had the
    outcome. Privacy: of the honest included hospitals' answers only their sum is learnt, which follows from the opened
    sum (X25519 holding; HKDF as a random function). A hospital that does not answer leaves the sum unverified; a
    failed check tells that someone lied, not who.
    Not promised: an included hospital that lies together with the parties makes any sum pass, since it can answer as
    if it had sent the difference. So parties alone change nothing unseen; with such a hospital they do what it could
    have done with its own update, but late and past the check of its norm. It must sign a false answer to do so:
    its coin, to which it committed before, does not help.
Source: a random linear check as in Freivalds 1977, here as universal hashing by an inner product (:mod:`field61`);
    commit, then reveal: Blum 1981; masks: Bonawitz et al. 2017, section 4, "masking with one-time pads".

For sums that are opened without noise. With p = 2^61 - 1 and the updates u_k:
  1. With its contribution hospital k signs ``commit_coin`` of 32 random bytes.
  2. When it holds the outcome, signed by every party, it reveals its coin. The outcome has the digests of the
     contributions, so that it fixes all commitments with the sum. A hospital reveals for one outcome of a round's
     attempt, ever, and answers it once: it persists which and what before that leaves, and later re-sends only these
     bytes. The hospital's state machine sees to it; no code here remembers anything.
  3. ``challenge`` of the outcome and all coins is the seed of chi in Z_p^D. Nobody knew it while the sum could change:
     the outcome alone would let the parties try sums in private until one passes, coins alone let them compute one.
  4. Hospital k signs a_k = <chi, u_k> + m_k mod p, where the masks m_k cancel; if the outcome includes its contribution
     and at least the study's minimum of hospitals (if all others colluded, its answer would be bare). Anyone checks
     that the sum of the a_k is <chi, sum> mod p, and the signatures, coins and commitments
     (``contribution.check_signature``, ``check_coins``).

The masks are classical: X25519 alone, as ML-KEM has no agreement without a message. Whoever breaks it in the future
learns from a recorded round one linear equation over Z_p of each hospital's update: enough to confirm a guess of the
whole update, not to find it. Whoever seizes a hospital's sealing key learns that of this hospital.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from protocols import field61
from protocols.canonical import DIGEST_BYTES, Record, digest, encode
from protocols.envelope import SealingKey
from protocols.errors import ChainError, EncodingError, WrongSumError
from protocols.field61 import PRIME
from protocols.prg import Stream

COIN_BYTES = 32
LARGEST = (PRIME - 1) // 2
"""2^60 - 1: a sum's entries stay within +-LARGEST, where no two integers are equal modulo p."""
_LABEL = "integrity-challenge"


class Answer(Record):
    """What an included hospital answers, to be signed by it (``contribution.sign``).

    Attributes:
        outcome: digest of the outcome, 32 bytes.
        challenge: the seed of chi, 32 bytes.
        hospital: its name.
        value: <chi, u_k> + m_k mod p, 0 to p - 1.
    """

    kind = "integrity-answer"
    outcome: bytes
    challenge: bytes
    hospital: str
    value: int

    @field_validator("outcome", "challenge")
    @classmethod
    def _a_digest(cls, value: bytes) -> bytes:
        if len(value) != DIGEST_BYTES:
            raise ValueError(f"it has {DIGEST_BYTES} bytes")
        return value

    @field_validator("value")
    @classmethod
    def _in_the_field(cls, value: int) -> int:
        if not 0 <= value < PRIME:
            raise ValueError("it is from 0 to 2^61 - 2")
        return value


def commit_coin(coin: bytes, context: bytes, hospital: str) -> bytes:
    """Commit a hospital to its coin: 32 bytes, which tell nothing of the coin and open to no other.

    Args:
        coin: 32 secret bytes of the operating system's source (``prg.new_seed``), used for nothing else.
        context: digest of the round's context, attempt included.
        hospital: its name: a commitment that another hospital repeats is none of its own.

    Raises:
        EncodingError: the coin has not 32 bytes.
    """
    _check_coin(coin)
    return digest("integrity-coin", [coin, context, hospital])


def check_coins(coins: Mapping[str, bytes], commitments: Mapping[str, bytes], context: bytes) -> None:
    """Check that every included hospital revealed the coin that it had committed to.

    Args:
        coins: by name, the coins that were revealed.
        commitments: by name, of the included hospitals and no others.
        context: as in ``commit_coin``.

    Raises:
        ChainError: names the first hospital, by name, whose coin is missing, is not asked for or is another.
    """
    for hospital in sorted({*coins, *commitments}):
        if hospital not in coins:
            raise ChainError(f"{hospital} did not reveal its coin: this sum stays unverified.")
        if hospital not in commitments:
            raise ChainError(f"{hospital} revealed a coin and is not included in this sum.")
        coin = coins[hospital]
        if len(coin) != COIN_BYTES or commit_coin(coin, context, hospital) != commitments[hospital]:
            raise ChainError(f"{hospital} revealed another coin than it had committed to.")


def challenge(outcome: bytes, coins: Mapping[str, bytes]) -> bytes:
    """The 32-byte seed of chi.

    Args:
        outcome: digest of the outcome, 32 bytes.
        coins: by name, of all included hospitals; checked before with ``check_coins``.

    Raises:
        EncodingError: there is no coin, or a coin or the outcome has not 32 bytes.
    """
    if len(outcome) != DIGEST_BYTES or not coins:
        raise EncodingError("A challenge needs the outcome's digest and a coin of every included hospital.")
    for coin in coins.values():
        _check_coin(coin)
    return digest(_LABEL, [outcome, dict(coins)])


def inner_product(chi: bytes, values: NDArray[Any]) -> int:
    """<chi, values> mod p, exact; 0 to p - 1.

    Args:
        chi: the seed, 32 bytes.
        values: (D,) signed integers of 16, 32 or 64 bits, any values. They are read in pieces, D may be large.

    Raises:
        EncodingError: the seed has not 32 bytes, or ``values`` is not such a vector.
    """
    return field61.inner_product(Stream(chi, _LABEL, b""), values)


class PairMasks:
    """One hospital's masks, which cancel over all included hospitals.

    Each pair shares an element for each context, agreed between their pinned sealing keys; the hospital whose name
    comes first adds it, the other subtracts it. One context masks one value, ever: the difference of two masked values
    would be seen. ``answer`` takes outcome and challenge as the context; its caller answers an outcome once.

    Args:
        own: this hospital's long-term sealing key.
        own_name: its name.
        publics: by name, the pinned public sealing keys of all included hospitals, this one too.

    Raises:
        EncodingError: this hospital is not among them under this key, or it is alone.
    """

    def __init__(self, own: SealingKey, own_name: str, publics: Mapping[str, bytes]) -> None:
        if publics.get(own_name) != own.public:
            raise EncodingError(f"{own_name} is not included, or its pinned sealing key is another.")
        if len(publics) < 2:
            raise EncodingError("A mask needs at least two included hospitals.")
        self._own, self.name, self._publics = own, own_name, dict(publics)

    def mask(self, context: bytes) -> int:
        """This hospital's mask for ``context``, 0 to p - 1.

        Raises:
            EncodingError: a pinned key is not a public sealing key.
        """
        peers = {peer: public for peer, public in self._publics.items() if peer != self.name}
        return combine(self.name, {peer: self._pair(peer, public, context) for peer, public in peers.items()})

    def _pair(self, peer: str, public: bytes, context: bytes) -> int:
        info = encode(["securefl-integrity-mask-1", context, *sorted((self.name, peer))])
        # 256 bits reduced: within 2^-194 of uniform.
        return int.from_bytes(self._own.agree(public, info), "little") % PRIME


def combine(name: str, pairs: Mapping[str, int], prime: int = PRIME) -> int:
    """One mask of a hospital's elements with its peers: + where its name comes before the peer's, - where after."""
    return sum(element if name < peer else -element for peer, element in pairs.items()) % prime


def answer(outcome: bytes, chi: bytes, values: NDArray[Any], masks: PairMasks) -> Answer:
    """A hospital's answer; the caller sees to it when one is given (see above), and that it is one for an outcome.

    Args:
        outcome: digest of the outcome, 32 bytes.
        chi: the challenge, 32 bytes.
        values: (D,) its encoded update as it was shared, read as signed integers of 16, 32 or 64 bits.
        masks: with the hospitals that the outcome includes.

    Raises:
        EncodingError: as ``inner_product`` and ``PairMasks.mask``.
    """
    value = (inner_product(chi, values) + masks.mask(encode([outcome, chi]))) % PRIME
    return Answer(outcome=outcome, challenge=chi, hospital=masks.name, value=value)


def check_answers(
    outcome: bytes, chi: bytes, total: NDArray[np.int64], answers: Sequence[Answer], included: Sequence[str]
) -> None:
    """Check the opened sum against the answers, whose signatures the caller has checked.

    Args:
        outcome: digest of the outcome; that ``total`` is the sum that it names is checked before.
        chi: its challenge, 32 bytes.
        total: (D,) the sum as signed integers of 64 bits, within +-(2^60 - 1). An honest sum stays there in rings of 16
            and 32 bits, and in one of 64 bits whose encoding leaves three bits free (eight times the summands):
            beyond, parties could add multiples of p.
        answers: in any order.
        included: the hospitals that the outcome includes.

    Raises:
        ChainError: names what does not hold: an answer is missing (the sum is unverified), comes twice, from a hospital
            that is not included, or to another outcome or challenge.
        WrongSumError: the sum is out of range, or is wrong.
        EncodingError: ``total`` is not a vector of 64-bit integers.
    """
    _check_answered(outcome, chi, answers, included)
    if total.dtype != np.int64:
        raise EncodingError(f"A sum is checked as signed integers of 64 bits, not as {total.dtype}.")
    expected = inner_product(chi, total)
    if int(total.max()) > LARGEST or int(total.min()) < -LARGEST:
        raise WrongSumError(
            "This sum has an entry beyond 2^60 - 1, where a wrong sum could pass: it is refused."
        )
    if sum(given.value for given in answers) % PRIME != expected:
        raise WrongSumError(
            "This sum is not that of the hospitals' updates, or a hospital answered wrongly: "
            "do not use it, and find out who lied."
        )


def _check_answered(outcome: bytes, chi: bytes, answers: Sequence[Answer], included: Sequence[str]) -> None:
    seen: set[str] = set()
    for given in answers:
        name = given.hospital
        if name not in included:
            raise ChainError(f"{name} answered and is not included in this sum.")
        if name in seen:
            raise ChainError(f"{name} answered twice.")
        if given.outcome != outcome:
            raise ChainError(f"{name} answered for another outcome.")
        if given.challenge != chi:
            raise ChainError(f"{name} answered another challenge.")
        seen.add(name)
    if missing := sorted(set(included) - seen):
        raise ChainError(f"This sum is unverified: no answer from {', '.join(missing)}.")


def _check_coin(coin: bytes) -> None:
    if len(coin) != COIN_BYTES:
        raise EncodingError(f"A coin has {COIN_BYTES} bytes, this one has {len(coin)}.")
