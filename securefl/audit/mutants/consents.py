"""Mutants whose approvals are good for longer than was approved: after their end, or for more runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from protocols.signing import SigningKey
from securefl.audit.hostile import context
from securefl.audit.mutants.consortium_folders import DAY, permit_of
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, VICTIM
from securefl.consent import Consent
from securefl.domain.errors import NotApprovedError
from securefl.domain.runs import Runs
from securefl.permit import PERMIT_FILE, REVOCATION_FILE, Revocation, SignedPermit, SignedRevocation
from securefl.roles.hospital import Consents, HospitalMachine
from securefl.roles.messages import Announcement, Declined, KeyRequest, SignedContribution, SignedRoundKey

# -- asked at the start ----------------------------------------------------------------------------------------------


class AskedOnce:
    """The naive consent: what held when the study began holds while it runs."""

    def __init__(self, consent: Consent) -> None:
        self._refusal = consent.refusal()

    def refusal(self) -> str | None:
        """As at the start."""
        return self._refusal


def _withdrawn(consents: Callable[[Consent], Consents]) -> tuple[int, int, int]:
    """Take a hospital's permit away in several ways after the first round.

    Returns how often it contributes all the same, how often it declines, and of how many; then, with the permit there
    again, it must contribute, or nothing is shown.
    """
    steward, now = SigningKey.generate(), [1000]
    with staged() as stage, tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        folder = Path(name)
        permit = permit_of(stage.terms.study, VICTIM, now[0])
        signed = SignedPermit.of(permit, steward)
        signed.save(folder)
        consent = Consent(folder, steward.public, stage.terms.study, VICTIM, lambda: now[0])
        stage.seat(VICTIM, _with_consent(stage, consents(consent)))
        stage.play_to_round_1()
        announcement, said = _announced(stage), []
        revocation = Revocation(permit=permit.number, time=now[0], reason="the patients objected")

        def revoke() -> None:
            SignedRevocation.of(revocation, steward).save(folder)

        def other() -> None:
            SignedPermit.of(permit.model_copy(update={"study": bytes(32)}), steward).save(folder)

        for change in (
            revoke,
            lambda: now.append(now.pop() + DAY),
            other,
            lambda: (folder / PERMIT_FILE).unlink(),
        ):
            change()
            said.append(stage.ask(VICTIM, announcement))
            (folder / REVOCATION_FILE).unlink(missing_ok=True)
            signed.save(folder)
            now[:] = [1000]
        held = stage.ask(VICTIM, announcement)
    contributed = sum(isinstance(answer, SignedContribution) for answer in said)
    declined = sum(isinstance(answer, Declined) for answer in said)
    return contributed, declined, len(said) if isinstance(held, SignedContribution) else 0


def _with_consent(stage: Stage, consent: Consents) -> HospitalMachine:
    """The shipped machine of the victim, with a steward's consent."""
    keys = stage.people.keys[VICTIM]
    trainer, trainable = stage.trainers[VICTIM], stage.trainers[VICTIM].layout.trainable_size
    return HospitalMachine(
        VICTIM, stage.terms, keys.signing, keys.sealing, trainer, stage.study.settings.server, trainable,
        stage.store(VICTIM), consent=consent,
    )  # fmt: skip


def _announced(stage: Stage) -> Announcement:
    of = context(stage)
    keys = stage.ask_all(dict.fromkeys(PARTIES, KeyRequest(context=of, cohort=list(HOSPITALS), session=1)))
    signed = [key for key in (keys[party] for party in PARTIES) if isinstance(key, SignedRoundKey)]
    return Announcement(context=of, cohort=list(HOSPITALS), keys=signed)


def _permit_breaks() -> Finding:
    contributed, _, tries = _withdrawn(AskedOnce)
    said = f"Revoked, expired, replaced or removed: {VICTIM} went on in {contributed} of {tries} cases."
    return Finding(contributed == tries > 0, said, {"contributed": contributed, "cases": tries})


def _permit_caught() -> Finding:
    contributed, declined, tries = _withdrawn(lambda consent: consent)
    said = f"{VICTIM} declined in {declined} of {tries} cases, and went on in {contributed}."
    return Finding(
        declined == tries > 0 == contributed, said, {"contributed": contributed, "declined": declined}
    )


# -- runs that are counted when they are over ------------------------------------------------------------------------

STARTS = 5


class CountedAtTheEnd:
    """The naive count: a run that has ended was used."""

    def __init__(self) -> None:
        self._begun = self._over = 0

    def begin(self, allowed: int) -> int:
        """The number of the run that begins.

        Raises:
            NotApprovedError: all are used.
        """
        if self._over >= allowed:
            raise NotApprovedError("All runs that were approved are used.")
        self._begun += 1
        return self._begun

    def end(self) -> int:
        """The run is over; how many are."""
        self._over += 1
        return self._over


def _interrupted(runs: Callable[[], Runs | CountedAtTheEnd]) -> tuple[set[int], bool]:
    """Start a study of one approved run and kill the node before its end, over and over, then let it end.

    Returns the runs that were had, and whether there was one more after the end.
    """
    had = set()
    for _ in range(STARTS):
        with suppress(NotApprovedError):
            had.add(runs().begin(1))
    runs().end()
    try:
        runs().begin(1)
    except NotApprovedError:
        return had, False
    return had, True


def _count_breaks() -> Finding:
    count = CountedAtTheEnd()
    had, _ = _interrupted(lambda: count)
    said = f"With one run approved, {len(had)} were begun by ending each before its end."
    return Finding(len(had) == STARTS, said, {"runs": len(had)})


def _count_caught() -> Finding:
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        had, more = _interrupted(lambda: Runs(Path(name)))  # each time as after a restart
    said = (
        f"{len(had)} run was begun, each start went on with it, and after its end there was {int(more)} more."
    )
    return Finding(had == {1} and not more, said, {"runs": len(had) + more})


MUTANTS = (
    Mutant(
        "permit-once",
        "consent-at-every-contribution",
        "A hospital asks for its steward's permit when a study begins.",
        _permit_breaks,
        _permit_caught,
    ),
    Mutant(
        "runs-counted-at-the-end",
        "consent-at-every-contribution",
        "A run counts as used when it is over.",
        _count_breaks,
        _count_caught,
    ),
)
