"""One case of the fuzzing: bytes are drawn, handed to a machine at a point of a run, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from protocols.canonical import decode, encode
from protocols.chain import total_digest
from protocols.errors import EncodingError
from securefl.errors import EngineError, RefusedError
from securefl.roles.effects import COORDINATOR, CommitteeFailed, Job, JobDone, OpenSum, Received
from securefl.roles.host import Answering, Host
from securefl.roles.messages import Message, Part, Refusal, Settled, read_message

from .corpus import Corpus
from .hostile import FORGED, forged, resigned, with_content
from .mutation import changed_tree, mutant
from .points import Point
from .rightful import wrong
from .tree import Pick


class FaultError(AssertionError):
    """A case that went wrong; the message says how."""


class ChangedError(FaultError):
    """A message was accepted that was not meant."""


class UntypedError(FaultError):
    """An exception of another kind."""


class MovedError(FaultError):
    """A refusal that changed something."""


@dataclass(frozen=True)
class Verdict:
    """How a case went: "refused", "the same" (the message that is due), or "meant"; and what was answered."""

    word: str
    answers: list[Message]


Judge = Callable[[Point, str, Message, list[Message], bool], str]


# -- a machine and a message -----------------------------------------------------------------------------------


def hand_over(point: Point, data: bytes, sender: str, meant: Judge = wrong) -> Verdict:
    """Give bytes to the machine that waits at a point, and judge what it does.

    Args:
        meant: why a message that was accepted should not have been.

    Raises:
        FaultError: it did not refuse what it should have, or not as it should have.
    """
    if point.role == COORDINATOR:
        accepted, answers = _to_coordinator(point, data, sender)
    else:
        accepted, answers = _to_member(point, data)
    unchanged = point.unchanged()
    if not unchanged:
        point.spoilt()
    if not accepted:
        if not unchanged:
            raise MovedError(f"{point} refused, and is not as it was.")
        return Verdict("refused", answers)
    message = read_message(data)
    if message.to_bytes() != data:
        raise ChangedError(f"{point} took other bytes than the canonical ones.")
    if why := meant(point, sender, message, answers, unchanged):
        raise ChangedError(f"{point} took a {message.kind}: {why}.")
    return Verdict("the same" if data == point.due else "meant", answers)


def _to_member(point: Point, data: bytes) -> tuple[bool, list[Message]]:
    live, jobs = point.live(), []

    def run_job(job: Job) -> JobDone | CommitteeFailed:
        jobs.append(job)
        # The shipped runner reads these from the same store.
        for name in [job.share] if isinstance(job, OpenSum) else job.parts.values():
            live.store[name]
        return point.done(job)

    try:
        answers = [
            read_message(data)
            for data in Answering(live.machine, live.store, run_job, live.ledger).answer(data)
        ]
    except Exception as error:
        point.spoilt()
        raise UntypedError(f"{point}: {type(error).__name__}: {error}") from error
    refused = len(answers) == 1 and isinstance(answers[0], Refusal) and answers[0].about != "committee"
    if refused and jobs:
        raise MovedError(f"{point} refused when it had begun: {answers[0]}")
    return not refused, answers


def _to_coordinator(point: Point, data: bytes, sender: str) -> tuple[bool, list[Message]]:
    """As the engine does: bytes that are no message never reach it, what it posts is encoded, an error ends the run."""
    live, before = point.live(), dict(point.live().store.content)
    posted: list[Message] = []
    others: list[Any] = []

    def post(to: str, message: Message) -> None:
        posted.append(read_message(message.to_bytes()))

    def set_timer(name: str, seconds: float) -> None:
        others.append(name)

    try:
        message = read_message(data)
    except EncodingError:
        return False, []
    try:
        host = Host(live.machine, live.store, post, set_timer=set_timer, notify=others.append)
        host.take(Received(sender, message))
    except (EngineError, RefusedError) as error:
        # The run is over: what the machine thinks now is of no interest, what is on its disk is.
        point.spoilt()
        if live.store.content != before and not _is_told(error):
            raise MovedError(f"{point} wrote to its disk, and ended the run: {error}") from error
        return False, []
    except Exception as error:
        point.spoilt()
        raise UntypedError(f"{point}: {type(error).__name__}: {error}") from error
    return bool(posted or others) or not point.unchanged(), posted


def _is_told(error: Exception) -> bool:
    """Whether a run ended because the hospitals' check failed: the record of it stays."""
    return isinstance(error, EngineError) and "is not that of the hospitals' updates" in str(error)


# -- cases -------------------------------------------------------------------------------------------------------


def drawn_from(choices: bytes) -> Pick:
    """A ``Pick`` that takes its choices from bytes, two at a time; the first of everything when they are used up."""
    left = iter(range(0, len(choices), 2))

    def pick(things: Any) -> Any:
        start = next(left, len(choices))
        return things[int.from_bytes(choices[start : start + 2], "big") % len(things)]

    return pick


CHOICES = st.binary(min_size=64, max_size=64)
"""One draw a case: many small ones cost more than the case itself."""


def case(corpus: Corpus, kind: str, pick: Pick) -> str:
    """Draw a mutant of this kind, and who gets it when."""
    due = pick(corpus.due[kind])
    elsewhere = pick(range(10))
    point, sender = due, due.sender
    if elsewhere < 3:
        role = due.role if elsewhere else pick(("party", "hospital", COORDINATOR))
        point = pick(corpus.roles[role])
    if kind in FORGED and pick(range(4)) == 0:
        data = forged(pick, point, kind)
    else:
        data = mutant(pick, due.due, corpus.messages[kind], corpus.pool)
    if point.role == COORDINATOR and (point is not due or pick(range(6)) == 0):
        members = [*point.world.terms.parties, *point.world.terms.hospitals]
        sender = due.sender if due.sender in members and pick((True, False)) else pick(members)
    note(f"To {point}, from {sender}: {data.hex()}")
    return hand_over(point, data, sender).word


def several(corpus: Corpus, role: str, pick: Pick, steps: int) -> list[str]:
    """A sequence to one machine: of real messages in any order, of forged ones and of mutants."""
    start = pick([point for point in corpus.roles[role]])
    point = replace(start, _live=None)
    written = [data for _, to, data in point.world.wire if to == point.name]
    at = next(i for i, data in enumerate(written) if data == start.due) if start.due in written else 0
    words = []
    for step in range(steps):
        near = written[max(0, at - 3) : at + 12]
        how = pick(("next", "near", "near", "any", "forged", "forged", "mutant"))
        data = {
            "next": written[min(at + step, len(written) - 1)],
            "near": pick(near),
            "any": pick(written),
        }.get(how, b"")
        if how == "forged":
            data = forged(pick, point, pick(FORGED))
        if how == "mutant":
            like = pick(near)
            data = mutant(pick, like, corpus.messages[read_message(like).kind], corpus.pool)
        note(f"To {point}: {data.hex()}")
        live = point.live()
        verdict = hand_over(point, data, COORDINATOR)
        words.append(verdict.word)
        if verdict.word != "refused":
            facts = point.facts.told(read_message(data), verdict.answers)
            point = replace(point, facts=facts, _kept=live, _live=None)
    return words


def signed_case(corpus: Corpus, kind: str, pick: Pick) -> str:
    """What is signed by those whom it names, and says what it likes: whoever gets it may take it, or refuse it."""
    point = pick(corpus.due[kind])
    message = read_message(point.due)
    for _ in range(pick((1, 1, 2))):
        try:
            message = read_message(encode(changed_tree(pick, decode(message.to_bytes()), corpus.pool)))
        except EncodingError:
            continue
    if isinstance(message, Part) and pick((True, False)):
        message = with_content(pick, point, message)
    data = resigned(message, point.world.cast.keys).to_bytes()
    note(f"To {point}: {data.hex()}")
    return hand_over(point, data, COORDINATOR, _follows).word


def _follows(point: Point, sender: str, message: Message, answers: list[Message], unchanged: bool) -> str:
    """Whatever the parties sign, the chain goes on from where it is, and a hospital checks who is in the sum."""
    if not isinstance(message, Settled) or unchanged:
        return ""
    outcome, terms = message.signed.outcome, point.world.terms
    context, included = outcome.context, outcome.included
    if (context.study, context.round, context.previous) != (
        terms.study,
        point.facts.round,
        point.facts.previous,
    ):
        return "it does not follow the outcome before"
    if point.role == "hospital" and (
        total_digest(message.total) != outcome.total
        or not set(included) <= set(terms.hospitals)
        or len(included) < terms.least(context.round)
    ):
        return "it is not a sum over enough hospitals"
    return ""


def fuzzed(
    check_case: Callable[[Pick], Any],
    cases: int,
    choices: st.SearchStrategy[bytes] = CHOICES,
    shrink: bool = True,
) -> Counter[Any]:
    """Check so many cases; what became of them."""
    found: Counter[Any] = Counter()
    phases = tuple(Phase) if shrink else (Phase.generate,)

    @settings(max_examples=cases, database=None, report_multiple_bugs=False, phases=phases)
    @given(choices)
    def check(drawn: bytes) -> None:
        found[check_case(drawn_from(drawn))] += 1

    check()
    return found
