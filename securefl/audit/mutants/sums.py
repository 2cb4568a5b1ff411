"""Mutants with which parties that work together publish another sum than the hospitals' own."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from protocols import field61, integrity
from protocols.chain import SignedOutcome, total_digest
from protocols.contribution import sign
from protocols.envelope import SealingKey
from protocols.errors import ChainError, WrongSumError
from protocols.field61 import PRIME
from protocols.prg import Stream, new_seed
from securefl.audit.hostile import context, try_round
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES
from securefl.errors import RefusedError
from securefl.roles.messages import (
    Announcement,
    Challenge,
    CoinRevealed,
    Refusal,
    Settled,
    SignedAnswer,
    Verification,
)
from securefl.roles.sum_check import check_verification

_LABEL = "integrity-challenge"

# -- all parties lie -------------------------------------------------------------------------------------------------


def _lie(stage: Stage) -> tuple[Settled, NDArray[np.float64]]:
    """Round 1, with a sum that makes the model whatever the parties like, signed by all of them; and that model."""
    tried = try_round(stage, context(stage))
    if tried.settled is None or tried.total is None:
        raise RefusedError("not-opened", f"The round was not opened: {', '.join(sorted(tried.reasons))}.")
    outcome = tried.settled.signed.outcome
    wanted = np.full(outcome.context.size, 0.25)
    planted = stage.terms.update.encode(wanted - stage.replica.state.model).tobytes()
    lie = outcome.model_copy(update={"total": total_digest(planted)})
    signed = SignedOutcome(outcome=lie, signatures=[sign(lie, stage.people.keys[p].signing) for p in PARTIES])
    return Settled(signed=signed, total=planted), wanted


def _lie_breaks() -> Finding:
    with staged() as stage:
        stage.play_to_round_1()
        settled, wanted = _lie(stage)
        # The naive hospital: an outcome that every party signed is true.
        model = stage.follow(stage.replica, settled).state.model
        found = int(np.count_nonzero(np.abs(model - wanted) <= stage.terms.update.resolution))
    said = f"Every signature holds, and {found} of {wanted.size} coordinates of the next model are the parties' choice."
    return Finding(found == wanted.size, said, {"chosen": found, "coordinates": wanted.size})


def _lie_caught() -> Finding:
    with staged(rounds=2) as stage:
        stage.play_to_round_1()
        settled, _ = _lie(stage)
        outcome = settled.signed.outcome
        told = {h: stage.tell(h, settled) for h in HOSPITALS}
        coins = [m for said in told.values() for m in said if isinstance(m, CoinRevealed)]
        challenge = Challenge(outcome=outcome.digest(), coins=coins)
        answers = [m for h in HOSPITALS for m in stage.tell(h, challenge) if isinstance(m, SignedAnswer)]
        record = Verification(round=1, outcome=outcome.digest(), coins=coins, answers=answers)
        try:
            check_verification(record, outcome, settled.total, stage.terms)
            verdict = "The finished check says nothing"
        except WrongSumError:
            verdict = "The finished check says that the sum is wrong"
        for hospital in HOSPITALS:
            stage.tell(hospital, record)
        following = stage.follow(stage.replica, settled)
        of = context(stage, round=2, previous=outcome.digest(), model=following.state.digest())
        announcement = Announcement(context=of, cohort=list(HOSPITALS), keys=[])
        after = [stage.ask(h, announcement) for h in HOSPITALS]
    left = sum(isinstance(m, Refusal) and m.reason == "wrong-sum" for m in after)
    said = f"{verdict}, and {left} of {len(HOSPITALS)} hospitals take no part any more."
    holds = verdict.endswith("is wrong") and left == len(HOSPITALS)
    return Finding(holds, said, {"answers": len(answers), "refusals": left})


# -- the challenge is known too early --------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
TRIALS = 100


class Answering:
    """Three hospitals with updates of 32 bits that answer truthfully."""

    def __init__(self) -> None:
        draw = np.random.default_rng(1)
        self.updates = {name: draw.integers(-(2**20), 2**20, 50) for name in NAMES}
        self.total = np.sum(list(self.updates.values()), axis=0)
        self._keys = {name: SealingKey.generate() for name in NAMES}

    def passes(self, outcome: bytes, chi: bytes, total: NDArray[np.int64]) -> bool:
        """Whether the hospitals' answers bear a sum out."""
        publics = {name: key.public for name, key in self._keys.items()}
        masks = {name: integrity.PairMasks(key, name, publics) for name, key in self._keys.items()}
        answers = [integrity.answer(outcome, chi, self.updates[name], masks[name]) for name in NAMES]
        try:
            integrity.check_answers(outcome, chi, total, answers, NAMES)
        except WrongSumError:
            return False
        return True


def unseen_error(chi: bytes, size: int) -> NDArray[np.int64]:
    """An error of less than 2^31 in two coordinates, whose inner product with chi is zero modulo p."""
    first, second = (int(word) % 2**61 for word in Stream(chi, _LABEL, b"").ring_vector(2, 64))
    # Euclid's algorithm on (p, t) with t = first / -second gives a r = t a, both of half the length of p.
    t = first * pow(-second, -1, PRIME) % PRIME
    (r0, r1), (a0, a1) = (PRIME, t), (0, 1)
    while r1 >= 2**30:
        q = r0 // r1
        (r0, r1), (a0, a1) = (r1, r0 - q * r1), (a1, a0 - q * a1)
    error = np.zeros(size, dtype=np.int64)
    error[:2] = a1, r1
    return error


def _early_challenge_breaks() -> Finding:
    hospitals, coins = Answering(), _coins()
    # The naive challenge is of the coins alone, which are told before the parties sign.
    chi = integrity.challenge(bytes(32), coins)
    error = unseen_error(chi, hospitals.total.size)
    passed, largest = hospitals.passes(new_seed(), chi, hospitals.total + error), int(np.abs(error).max())
    said = f"A sum that is wrong by up to {largest} {'passed' if passed else 'did not pass'} the check."
    return Finding(passed and largest > 0, said, {"error": largest})


def _early_challenge_caught() -> Finding:
    hospitals, passed = Answering(), 0
    for trial in range(TRIALS):
        # By turns the parties know the coins too early, or have a guess of them when the outcome stands.
        coins = _coins()
        guess = integrity.challenge(bytes(32), coins if trial % 2 else _coins())
        lie = hospitals.total + unseen_error(guess, hospitals.total.size)
        outcome = total_digest(lie.tobytes()) if trial % 2 else bytes(32)
        passed += hospitals.passes(outcome, integrity.challenge(outcome, coins), lie)
    outcome = total_digest(hospitals.total.tobytes())
    honest = hospitals.passes(outcome, integrity.challenge(outcome, _coins()), hospitals.total)
    said = (
        f"{passed} of {TRIALS} such sums passed when outcome and coins both made the challenge; the true sum "
        f"{'did' if honest else 'did not'}."
    )
    return Finding(not passed and honest, said, {"passed": passed, "trials": TRIALS})


def _coins() -> dict[str, bytes]:
    return {name: new_seed() for name in NAMES}


# -- the last to reveal chooses --------------------------------------------------------------------------------------

BITS = 13
"""The exponent of the Mersenne prime, scaled down from 61, so that one coin in 2^13 will do."""
_OUTCOME, LAST = bytes(32), "c"
_ERROR = np.array([1000, -7, 0, 1])


def _ground(others: dict[str, bytes], last: str, outcome: bytes) -> tuple[bytes, int]:
    """A coin for the last hospital under which the error is not seen modulo 2^13 - 1, and how many it took."""
    for tries in range(1, 100 * 2**BITS):
        coin = tries.to_bytes(32, "big")
        if _unseen(_ERROR, {**others, last: coin}, outcome):
            return coin, tries
    raise ChainError("No coin was found.")


def _unseen(error: NDArray[np.int64], coins: dict[str, bytes], outcome: bytes) -> bool:
    chi = integrity.challenge(outcome, coins)
    return field61.inner_product(Stream(chi, _LABEL, b""), error, BITS) == 0


def _borne_out(coins: dict[str, bytes], updates: list[NDArray[np.int64]], total: NDArray[np.int64]) -> bool:
    """The check of a sum by truthful answers, modulo 2^13 - 1; without masks, which cancel."""
    chi = integrity.challenge(_OUTCOME, coins)
    values = [field61.inner_product(Stream(chi, _LABEL, b""), u, BITS) for u in (*updates, total)]
    return (sum(values[:-1]) - values[-1]) % (2**BITS - 1) == 0


def _last_breaks() -> Finding:
    others = {"a": new_seed(), "b": new_seed()}
    updates = [np.random.default_rng(k).integers(-1000, 1000, _ERROR.size) for k in range(len(NAMES))]
    started = time.process_time()
    coin, tries = _ground(others, LAST, _OUTCOME)
    rate = tries / (time.process_time() - started)
    passed = _borne_out({**others, LAST: coin}, updates, np.sum(updates, axis=0) + _ERROR)
    said = (
        f"With the {tries}th coin a wrong sum {'passed' if passed else 'did not pass'}, though every hospital answered "
        f"truthfully (modulo 2^{BITS} - 1; at {rate:.0f} coins a second one core would need "
        f"{2.0**61 / rate / 3.15e7:.0e} years modulo 2^61 - 1)."
    )
    return Finding(passed, said, {"coins": tries, "coins_a_second": round(rate)})


def _last_caught() -> Finding:
    """The last hospital of a study sees the others' coins, and reveals one that it chose by them."""
    with staged() as stage:
        stage.play_to_round_1()
        settled = try_round(stage, context(stage)).settled
        if settled is None:
            return Finding(False, "The round was not opened.")
        outcome = settled.signed.outcome.digest()
        *coins, last = [m for h in HOSPITALS for m in stage.tell(h, settled) if isinstance(m, CoinRevealed)]
        others = {revealed.contribution.hospital: revealed.coin for revealed in coins}
        coin, tries = _ground(others, last.contribution.hospital, outcome)
        chosen = Challenge(outcome=outcome, coins=[*coins, last.model_copy(update={"coin": coin})])
        said = [stage.ask(hospital, chosen) for hospital in others]
        refusals = [m.explanation for m in said if isinstance(m, Refusal)]
        drawn = Challenge(outcome=outcome, coins=[*coins, last])
        answered = sum(isinstance(stage.ask(hospital, drawn), SignedAnswer) for hospital in HOSPITALS)
    told = (
        f"The coin that was chosen after {tries} tries was refused by {len(refusals)} of {len(others)} hospitals "
        f"({refusals[0] if refusals else 'it was taken'}), and the one that was drawn answered by {answered}."
    )
    holds = len(refusals) == len(others) and answered == len(HOSPITALS)
    return Finding(holds, told, {"coins": tries, "refusals": len(refusals)})


MUTANTS = (
    Mutant(
        "parties-lie",
        "wrong-sums-are-noticed",
        "A sum that every party signed is true.",
        _lie_breaks,
        _lie_caught,
    ),
    Mutant(
        "challenge-known-early",
        "wrong-sums-are-noticed",
        "The challenge of the hospitals' check is of their coins alone, which the parties see before they sign.",
        _early_challenge_breaks,
        _early_challenge_caught,
    ),
    Mutant(
        "coins-without-commitments",
        "wrong-sums-are-noticed",
        "Hospitals reveal their coins without having committed to them: the last one sees the others' first.",
        _last_breaks,
        _last_caught,
    ),
)
