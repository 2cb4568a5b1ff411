"""Checks the folder of a run for everything that was promised and can be seen from outside, whichever engine made it.

It goes on after a promise that is broken, so that one look shows all of them. What cannot be seen from this folder is
"unchecked", and is no failure: hospitals keep their ledgers and permits to themselves.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from protocols.chain import Outcome, SignedOutcome
from protocols.errors import ProtocolError
from securefl.audit.budgets import check_budgets, ledgers
from securefl.audit.canaries import SHORTEST
from securefl.audit.consents import check_permits
from securefl.audit.founding import Founding, Receipts, read_info
from securefl.audit.left_secrets import check_secrets
from securefl.audit.sizes import check_sizes
from securefl.audit.verdict import BrokenError, Check, Mark, Verdict, checking, sums_checked
from securefl.audit.verify import verify
from securefl.consortium import Consortium
from securefl.errors import RunError, SecureFLError
from securefl.roles.records import receipt_name
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder

MEMBERS, NORMS_AND_SUMS = "members", "norms and sums"


@dataclass(frozen=True)
class Examined:
    """What was found in a folder.

    Attributes:
        verdict: of the receipts, check by check.
        checks: a line for each promise.
    """

    verdict: Verdict
    checks: Sequence[Check]

    @property
    def broken(self) -> Check | None:
        """The first promise that is broken."""
        return next((check for check in self.checks if check.mark == "fails"), None)


def examine(
    folder: Path,
    pinned: Consortium | None = None,
    canaries: Mapping[str, bytes] | None = None,
    stewards: Mapping[str, bytes] | None = None,
) -> Examined:
    """Check a finished run.

    Args:
        folder: of the run.
        pinned: the members as the caller knows them.
        canaries: secrets that must stand nowhere, by name.
        stewards: public signing keys by hospital, to check permits with.

    Raises:
        RunError: there is no run in the folder.
        ValueError: a canary is too short.
    """
    run = RunFolder(folder)
    verdict = verify(folder, pinned)
    checks = [_receipts(verdict)]
    try:
        founding = Founding.read(run, read_info(run), Receipts(run.receipts))
        outcomes = _outcomes(run, len(verdict.receipts))
    except (BrokenError, ProtocolError) as error:
        why = f"The study or its receipts cannot be read: {error}"
        names = (MEMBERS, NORMS_AND_SUMS, "cohorts", "message sizes", "budgets", "approvals")
        checks += [Check(name, "unchecked", why) for name in names]
    else:
        terms = founding.terms
        checks.append(_members(founding, pinned))
        checks.append(_norms_and_sums(verdict, terms))
        checks.append(_told("cohorts", _cohorts(terms, outcomes)))
        checks.append(check_sizes(run, terms, outcomes))
        budgets = check_budgets(folder, founding.study.settings.privacy, terms, outcomes)
        charged = [] if budgets[0].mark == "fails" else ledgers(folder)
        checks += budgets
        checks += check_permits(folder, terms, outcomes, stewards or {}, _began(founding), charged)
    checks.append(_told("key files", _key_files(run)))
    checks.append(check_secrets(run, canaries or {}))
    return Examined(verdict, checks)


def _told(name: str, steps: Iterator[str]) -> Check:
    """A check whose steps end with what was found; an error fails it, silence leaves it unchecked."""
    says = ""
    mark: Mark = "holds"
    try:
        with checking(name):
            says = next(steps, "")
    except BrokenError as error:
        says, mark = str(error), "fails"
    return (
        Check(name, mark, says)
        if says
        else Check(name, "unchecked", "There is nothing of it in this folder.")
    )


def _receipts(verdict: Verdict) -> Check:
    if verdict.fault is not None and verdict.fault.name == MEMBERS:
        return Check("receipts", "unchecked", "They are not looked at: the members are others.")
    if verdict.fault is not None:
        return Check("receipts", "fails", f"{verdict.fault.name}: {verdict.fault.says}")
    if not verdict.closed:
        return Check("receipts", "fails", f"{verdict.sentence} A finished run has a closing record.")
    mark: Mark = "unverified" if verdict.unverified else "unchecked" if verdict.unchecked else "holds"
    return Check("receipts", mark, verdict.sentence)


def _members(founding: Founding, pinned: Consortium | None) -> Check:
    """Whose keys the receipts are checked with; those of the folder show only that it agrees with itself."""
    try:
        with checking(MEMBERS):
            found = founding.check_members(pinned)
    except BrokenError as error:
        return Check(MEMBERS, "fails", str(error))
    if pinned is not None:
        return found
    says = (
        f"{found.says} Whoever made this folder can have made its keys: give --consortium with your own copy, or "
        "compare the digest with the one that `securefl consortium show` gives of it."
    )
    return Check(MEMBERS, "unchecked", says)


def _norms_and_sums(verdict: Verdict, terms: Terms) -> Check:
    """What was checked of the updates and of the sums; a run in which nobody checked breaks a promise."""
    if verdict.insecure:
        says = "An INSECURE run (--insecure-unchecked): neither norms nor sums were checked by anyone."
        return Check(NORMS_AND_SUMS, "fails", says)
    if verdict.fault is not None or not verdict.receipts:
        return Check(NORMS_AND_SUMS, "unchecked", "There are no receipts that hold.")
    norms = (
        "The committee checked the norm of each update, by its own word"
        if terms.checks_norms
        else "The study bounds no norm, and an update may be as large as the ring allows"
    )
    sums = sums_checked(verdict.unverified, len(verdict.receipts))
    return Check(NORMS_AND_SUMS, "unverified" if verdict.unverified else "holds", f"{norms}; {sums}.")


def _began(founding: Founding) -> int | None:
    """When the run began, by ``run.json``."""
    try:
        return int(datetime.fromisoformat(founding.info["started"]).timestamp())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _outcomes(run: RunFolder, count: int) -> list[Outcome]:
    receipts = Receipts(run.receipts)
    return [receipts.record(SignedOutcome, receipt_name(round_)).outcome for round_ in range(count)]


def _cohorts(terms: Terms, outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        count, least = len(outcome.included), terms.least(outcome.round)
        if count < least:
            raise RunError(
                f"The sum of round {outcome.round} is over {count} hospitals, and {least} are the least."
            )
        parties = outcome.context.parties
        if len(parties) <= terms.collusion_bound:
            raise RunError(f"The {len(parties)} parties of round {outcome.round} are as many as may collude.")
    if outcomes:
        fewest = min(len(outcome.included) for outcome in outcomes)
        smallest = min(len(outcome.context.parties) for outcome in outcomes)
        yield (
            f"Every sum is over {fewest} hospitals or more ({terms.minimum} are the least), opened by {smallest} "
            f"parties or more ({terms.collusion_bound} may collude)."
        )


def _key_files(run: RunFolder) -> Iterator[str]:
    count = 0
    for path in run.path.rglob("*.key"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise RunError(f"{path.relative_to(run.path)} can be read by others (mode {mode:04o}).")
        count += 1
    if count:
        yield f"{count} private keys lie in files that only their owner reads."


def told_as(examined: Examined) -> dict[str, object]:
    """The findings as plain values, for JSON."""
    return {
        "holds": examined.broken is None,
        "broken": [check.name for check in examined.checks if check.mark == "fails"],
        "checks": [vars(check) for check in examined.checks],
        "claims": list(examined.verdict.claims),
        "receipts": [vars(check) for check in examined.verdict.checks],
    }


def canaries_of(texts: Sequence[str]) -> dict[str, bytes]:
    """Canaries by a name that does not show them.

    Raises:
        SecureFLError: one is too short.
    """
    for text in texts:
        if len(text.encode()) < SHORTEST:
            raise SecureFLError(
                f"A canary needs {SHORTEST} characters at least; shorter ones are found by chance."
            )
    return {f"canary {number}": text.encode() for number, text in enumerate(texts, start=1)}
