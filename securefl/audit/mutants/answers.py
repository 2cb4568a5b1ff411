"""A mutant whose hospitals answer in the check of a sum without masks: each answer is an equation of one update."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.canonical import encode
from protocols.contribution import sign
from protocols.field61 import PRIME
from protocols.integrity import PairMasks, inner_product
from protocols.ring import signed
from securefl.audit.registry import Finding, Mutant, Number
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, VICTIM
from securefl.errors import SecureFLError
from securefl.roles.effects import Effect, Event, Machine, Send
from securefl.roles.host import Answering
from securefl.roles.messages import SignedAnswer

OTHER = "va-long-beach"
"""The second honest hospital; all others work with the attacker."""
COLLUDERS = [hospital for hospital in HOSPITALS if hospital not in (VICTIM, OTHER)]


class Unmasked:
    """A hospital that answers with the inner product of its update as it is."""

    def __init__(self, machine: Machine, stage: Stage) -> None:
        self.name, self._machine, self._stage = machine.name, machine, stage

    def handle(self, event: Event) -> list[Effect]:
        """The shipped hospital's effects, with another answer."""
        return [self._bare(effect) for effect in self._machine.handle(event)]

    def _bare(self, effect: Effect) -> Effect:
        if not (isinstance(effect, Send) and isinstance(effect.message, SignedAnswer)):
            return effect
        given, key = effect.message.answer, self._stage.people.keys[self.name]
        masks = PairMasks(key.sealing, self.name, self._stage.terms.sealing)
        value = (given.value - masks.mask(encode([given.outcome, given.challenge]))) % PRIME
        answer = given.model_copy(update={"value": value})
        return Send(effect.to, SignedAnswer(answer=answer, signature=sign(answer, key.signing)))


@dataclass(frozen=True)
class Confirmed:
    """What the attacker makes of the answers.

    Attributes:
        guesses: honest hospitals whose true update it tells from a wrong guess by their answers, of two.
        their_sum: whether the two answers' sum confirms a guess of the sum of both updates, as the opened sum does.
        checked: sums whose check the answers have passed, of two.
    """

    guesses: int
    their_sum: bool
    checked: int

    @property
    def numbers(self) -> dict[str, Number]:
        """What was counted."""
        return {"confirmed": self.guesses, "checked": self.checked}


def _played(masked: bool) -> Confirmed:
    """A study; the attacker sees its answers, and has the colluding hospitals' keys and a guess of each update."""
    with staged() as stage:
        for hospital in () if masked else HOSPITALS:
            machine = Unmasked(stage.hospital(hospital), stage)
            stage.seats[hospital] = Answering(machine, stage.store(hospital))
        stage.play()
        if stage.finished is None:
            raise SecureFLError("The study did not come to its end.")
        checked = stage.terms.rounds + 1 - len(stage.finished.closing.closing.unverified)
        outcome = stage.outcomes()[1].outcome.digest()
        given = [m.answer for _, _, m in stage.wire if isinstance(m, SignedAnswer)]
        answers = {answer.hospital: answer for answer in given if answer.outcome == outcome}
        chi = answers[VICTIM].challenge
        honest = (VICTIM, OTHER)
        products = [inner_product(chi, signed(stage.update(h))) for h in honest]
        bare = [answers[h].value for h in honest]
        shared = [_shared(stage, h, encode([outcome, chi])) for h in honest]
    stripped = [(value - part) % PRIME for value, part in zip(bare, shared, strict=True)]
    guesses = sum(product in seen for product, *seen in zip(products, bare, stripped, strict=True))
    sums = [sum(values) % PRIME for values in (products, bare, stripped)]
    return Confirmed(guesses, sums[0] in sums[1:], checked)


def _shared(stage: Stage, hospital: str, context: bytes) -> int:
    """The part of a hospital's mask that it shares with the colluders, by their keys."""
    sealing, total = stage.terms.sealing, 0
    for peer in COLLUDERS:
        pair = {name: sealing[name] for name in (peer, hospital)}
        total -= PairMasks(stage.people.keys[peer].sealing, peer, pair).mask(context)
    return total


def _told(found: Confirmed) -> str:
    return (
        f"The answers confirm a guess of {found.guesses} of 2 honest hospitals' whole updates; {found.checked} sums "
        "passed their check"
    )


def _unmasked_breaks() -> Finding:
    found = _played(masked=False)
    return Finding(found.guesses == 2, f"{_told(found)}, as if nothing were amiss.", found.numbers)


def _unmasked_caught() -> Finding:
    found = _played(masked=True)
    agree = "agree" if found.their_sum else "do not agree"
    said = f"{_told(found)}. Added up, the answers {agree} with the two updates' sum, which the opened sum tells too."
    return Finding(not found.guesses and found.their_sum and found.checked == 2, said, found.numbers)


MUTANTS = (
    Mutant(
        "answers-without-masks",
        "answers-tell-only-their-sum",
        "In the check of a sum a hospital answers with the bare inner product of its update and the challenge.",
        _unmasked_breaks,
        _unmasked_caught,
    ),
)
