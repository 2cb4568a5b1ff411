"""Whether hospitals sent messages as long as the model's size asks for, whatever they had learnt.

How long they were stands in ``history.jsonl``, which is the coordinator's word: nobody signs how much a hospital sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protocols.chain import Outcome
from protocols.contribution import Contribution
from protocols.envelope import OVERHEAD_BYTES
from protocols.prg import SEED_BYTES
from securefl.audit.verdict import BrokenError, Check, checking, rounds
from securefl.errors import RunError
from securefl.roles.messages import SignedContribution
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder

NAME = "message sizes"


def check_sizes(run: RunFolder, terms: Terms, outcomes: Sequence[Outcome]) -> Check:
    """One check: each contribution to each sum had exactly the bytes that its form needs."""
    try:
        with checking(NAME):
            told = _told(run) if run.history_file.exists() else {}
            said = [outcome.round for outcome in outcomes if _check(run, terms, outcome, told)]
    except BrokenError as error:
        return Check(NAME, "fails", str(error))
    if not said:
        return Check(NAME, "unchecked", f"No {run.history_file.name} here says how much hospitals sent.")
    says = f"In {rounds(said)} each hospital sent exactly what the model's size asks for, by the coordinator's word"
    silent = [outcome.round for outcome in outcomes if outcome.round not in said]
    if silent:
        return Check(NAME, "unchecked", f"{says}; of {rounds(silent)} it says nothing.")
    return Check(NAME, "holds", f"{says}.")


def _told(run: RunFolder) -> dict[int, Any]:
    """What the history says of each round's contributions: bytes by hospital, or None."""
    try:
        return {line["round"]: line.get("contribution_bytes") for line in run.history()}
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError, RunError) as error:
        raise RunError(f"{run.history_file.name} cannot be read.") from error


def _check(run: RunFolder, terms: Terms, outcome: Outcome, told: dict[int, Any]) -> bool:
    """Whether the history says something of this round; a RunError if it is not what it must be."""
    sizes = told.get(outcome.round)
    if sizes is None:
        return False
    for hospital in outcome.included:
        said = sizes.get(hospital) if isinstance(sizes, dict) else sizes
        needed = contribution_bytes(outcome, hospital, terms.checks_sums)
        if said != needed:
            raise RunError(
                f"{run.history_file.name} says that {hospital} sent {said} bytes in round {outcome.round}; a "
                f"contribution of {outcome.context.size} numbers has {needed}, whatever they are."
            )
    return True


def contribution_bytes(outcome: Outcome, hospital: str, checks_sums: bool) -> int:
    """How long this hospital's contribution to a round is, whatever is in it."""
    context, parties = outcome.context, len(outcome.context.parties)
    explicit = context.size * context.width // 8
    lengths = [OVERHEAD_BYTES + 1 + (explicit if i == 0 else SEED_BYTES) for i in range(parties)]
    contribution = Contribution(
        context=bytes(32), hospital=hospital, envelopes=[bytes(32)] * parties, coin=bytes(32 * checks_sums)
    )
    envelopes = [bytes(length) for length in lengths]
    return len(
        SignedContribution(contribution=contribution, signature=bytes(64), envelopes=envelopes).to_bytes()
    )
