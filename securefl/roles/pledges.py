"""A hospital's side of the check of the sum: what it contributed, the coin it reveals, the one answer it gives.

The order is that of ``protocols.integrity``: a commitment with the contribution; the coin when the outcome is there,
and on disk before that, for which outcome; an answer to one challenge, on disk before it leaves. What is large (the
update, the sum) may be lost to a power failure: the sum then stays unverified. What is small (which outcome, which
answer) may not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protocols import integrity
from protocols.canonical import Record
from protocols.chain import Outcome
from protocols.contribution import Contribution, RoundContext, sign
from protocols.envelope import SealingKey
from protocols.errors import EncodingError, ProtocolError, WrongSumError
from protocols.prg import RingVector, new_seed
from protocols.ring import from_bytes, signed
from protocols.signing import SigningKey
from securefl.errors import RefusedError
from securefl.roles.effects import COORDINATOR, Effect, Keep, Persist, Send
from securefl.roles.messages import Challenge, CoinRevealed, SignedAnswer, Verification
from securefl.roles.sum_check import check_verification, checked_challenge
from securefl.roles.terms import Terms

REVEALED, PLEDGE, TOTAL = "revealed", "pledge-", "total-"
REMEMBERED = 2
"""Rounds: the check of one may still run while the next contribution is made."""


class Pledge(Record):
    """What a hospital contributed to a round: the encoded update itself, and its coin. It never leaves the hospital."""

    kind = "pledge"
    contribution: Contribution
    coin: bytes
    vector: bytes


class Revealed(Record):
    """For which outcome a coin was revealed, and what was answered: ``answer`` is None until then."""

    kind = "revealed"
    outcome: Outcome
    contribution: Contribution
    coin: bytes
    answer: SignedAnswer | None


class Memory(Record):
    """The last rounds' coins. ``failed`` is the round whose sum turned out to be wrong, -1 if none."""

    kind = "revealed-memory"
    rounds: list[Revealed]
    failed: int


class Pledges:
    """One hospital's pledges.

    Args:
        name: the hospital.
        terms: the study's.
        key, sealing: its private keys.
        stored: its store; read when asked.
    """

    def __init__(
        self, name: str, terms: Terms, key: SigningKey, sealing: SealingKey, stored: Mapping[str, bytes]
    ) -> None:
        self._name, self._terms, self._key, self._sealing = name, terms, key, sealing
        self._stored = stored

    def new_coin(self, context: RoundContext) -> tuple[bytes, bytes]:
        """A coin, and the commitment to it that goes into the contribution."""
        coin = new_seed()
        return coin, integrity.commit_coin(coin, context.digest(), self._name)

    def pledge(self, round_: int, contribution: Contribution, coin: bytes, x: RingVector) -> list[Effect]:
        """Keep what is being contributed; what is older than the round before is forgotten."""
        made = Pledge(contribution=contribution, coin=coin, vector=x.tobytes())
        old = round_ - REMEMBERED
        return [*self._forget(old), Keep(f"{PLEDGE}{round_}", made.to_bytes())]

    def check_not_failed(self) -> None:
        """Refuse to take part after a sum that was wrong."""
        failed = self._memory().failed
        if failed >= 0:
            raise RefusedError(
                "wrong-sum",
                f"The sum of round {failed} is not that of the hospitals' updates: audit the parties first.",
            )

    def settled(self, outcome: Outcome, total: bytes) -> list[Effect]:
        """An outcome was accepted: reveal the coin, if this hospital is in the sum.

        Raises:
            RefusedError: the sum is said to have a contribution of this hospital that it did not make, or another
                outcome of this round was accepted before.
        """
        for before in self._memory().rounds:
            if before.outcome.round == outcome.round:
                if before.outcome != outcome:
                    raise RefusedError(
                        "second-outcome",
                        f"The parties signed two outcomes of round {outcome.round}: audit them.",
                    )
                return self.reveal_again(outcome.round)
            if before.outcome.round > outcome.round:
                return []  # it is back where it was long ago, by a power failure: what it revealed then is forgotten
        pledge = self._pledge(outcome.round)
        if pledge is None or pledge.contribution.context != outcome.context.digest():
            return []
        if outcome.frozen.contributions.get(self._name) not in (None, pledge.contribution.digest()):
            raise RefusedError(
                "foreign-contribution",
                f"Round {outcome.round} has a contribution of {self._name} that it did not make: audit the parties.",
            )
        if self._name not in outcome.included:
            return self._forget(outcome.round)
        made = Revealed(outcome=outcome, contribution=pledge.contribution, coin=pledge.coin, answer=None)
        memory = self._memory()
        changed = memory.model_copy(update={"rounds": [*memory.rounds, made][-REMEMBERED:]})
        return [
            Keep(f"{TOTAL}{outcome.round}", total),
            Persist(REVEALED, changed.to_bytes()),
            Send(COORDINATOR, self._reveal(made)),
        ]

    def reveal_again(self, round_: int) -> list[Effect]:
        """The same coin for the same outcome, if it was revealed and not answered for."""
        made = self._find(lambda revealed: revealed.outcome.round == round_)
        return [Send(COORDINATOR, self._reveal(made))] if made else []

    def challenged(self, message: Challenge) -> list[Effect]:
        """Answer for the update, once.

        Raises:
            RefusedError: the outcome is not the one that was accepted, a coin is not the committed one, or another
                challenge was answered.
        """
        made = self._find(lambda revealed: revealed.outcome.digest() == message.outcome)
        if made is None:
            raise RefusedError(
                "other-outcome", "This challenge is not for an outcome that was accepted here."
            )
        chi = self._challenge(made, message.coins)
        if made.answer is not None:
            if made.answer.answer.challenge != chi:
                raise RefusedError("second-challenge", "Another challenge to this outcome was answered.")
            return [Send(COORDINATOR, made.answer)]
        pledge = self._pledge(made.outcome.round)
        if pledge is None or pledge.contribution != made.contribution:
            raise RefusedError("update-lost", f"{self._name} has lost its update of this round.")
        context = made.outcome.context
        values = signed(from_bytes(pledge.vector, context.width, context.size))
        publics = {hospital: self._terms.sealing[hospital] for hospital in made.outcome.included}
        masks = integrity.PairMasks(self._sealing, self._name, publics)
        answer = integrity.answer(message.outcome, chi, values, masks)
        given = SignedAnswer(answer=answer, signature=sign(answer, self._key))
        answered = self._remember(made.model_copy(update={"answer": given}))
        # The update in the clear is needed no more.
        return [answered, Keep(f"{PLEDGE}{made.outcome.round}", b""), Send(COORDINATOR, given)]

    def verified(self, message: Verification) -> list[Effect]:
        """Check the finished check.

        A sum that is wrong is remembered: this hospital takes no part any more.

        Raises:
            RefusedError: this is no complete check of an outcome that was accepted here.
        """
        made = self._find(lambda revealed: revealed.outcome.digest() == message.outcome)
        total = self._stored.get(f"{TOTAL}{message.round}")
        if made is None or made.outcome.round != message.round or total is None:
            raise RefusedError("other-outcome", "This check is not of an outcome that is waited for here.")
        try:
            check_verification(message, made.outcome, total, self._terms)
        except WrongSumError:
            failed = self._memory().model_copy(update={"failed": message.round})
            return [Persist(REVEALED, failed.to_bytes())]
        except ProtocolError as error:
            raise RefusedError("not-verified", str(error)) from error
        return self._forget(message.round)

    # -- small things --------------------------------------------------------------------------------------------

    def _challenge(self, made: Revealed, coins: list[CoinRevealed]) -> bytes:
        try:
            chi = checked_challenge(made.outcome, coins)
        except ProtocolError as error:
            raise RefusedError("bad-challenge", str(error)) from error
        if not any(c.hospital == self._name and c.coin == made.coin for c in coins):
            raise RefusedError("bad-challenge", "The challenge does not contain this hospital's coin.")
        return chi

    def _reveal(self, made: Revealed) -> CoinRevealed:
        return CoinRevealed(
            hospital=self._name,
            outcome=made.outcome.digest(),
            contribution=made.contribution,
            coin=made.coin,
        )

    def _memory(self) -> Memory:
        data = self._stored.get(REVEALED)
        return Memory.from_bytes(data) if data else Memory(rounds=[], failed=-1)

    def _find(self, wanted: Callable[[Revealed], bool]) -> Revealed | None:
        return next((revealed for revealed in self._memory().rounds if wanted(revealed)), None)

    def _remember(self, made: Revealed) -> Persist:
        memory = self._memory()
        rounds = [made if r.outcome.round == made.outcome.round else r for r in memory.rounds]
        return Persist(REVEALED, memory.model_copy(update={"rounds": rounds}).to_bytes())

    def _pledge(self, round_: int) -> Pledge | None:
        try:
            data = self._stored.get(f"{PLEDGE}{round_}")
            return Pledge.from_bytes(data) if data else None
        except EncodingError:
            return None  # half of it went with a power failure

    def _forget(self, round_: int) -> list[Effect]:
        return [Keep(name, b"") for name in (f"{PLEDGE}{round_}", f"{TOTAL}{round_}") if name in self._stored]
