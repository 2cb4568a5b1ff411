"""An approval is one signed record about one study: changed, moved, replayed, expired or revoked, it allows nothing.

The control of each is in ``test_stock_syft.py``, where the same is done to Syft's approval, a line in a file.
"""

from __future__ import annotations

import os

import pytest

from protocols.signing import SigningKey
from securefl.consent import Consent
from securefl.permit import PERMIT_FILE, Permit, Revocation, SignedPermit, SignedRevocation

STUDY, ANOTHER, PROPOSAL = b"\1" * 32, b"\2" * 32, b"\3" * 32
DAY = 24 * 3600
NOW = 1_800_000_000


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def permit(**changed: object) -> Permit:
    fields: dict[str, object] = {
        "number": b"\7" * 16,
        "study": STUDY,
        "proposal": PROPOSAL,
        "hospital": "north",
        "dataset": "mri-2026",
        "purpose": "find tumours",
        "runs": 1,
        "epsilon": "",
        "delta": "",
        "unit": "",
        "not_before": NOW,
        "expires": NOW + DAY,
        "steward": "steward@north.example",
        "researcher": "researcher@lab.example",
        "reason": "IRB 2026-117",
    }
    return Permit(**(fields | changed))


@pytest.fixture
def steward() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def clock() -> Hand:
    return Hand(NOW + 60)


@pytest.fixture
def consent(tmp_path, steward, clock):
    """For one study, whose permit lies in the folder."""
    SignedPermit.of(permit(), steward).save(tmp_path)

    def of(study: bytes = STUDY, hospital: str = "north") -> Consent:
        return Consent(tmp_path, steward.public, study, hospital, clock)

    assert of().refusal() is None  # what every test below takes away
    return of


def test_a_permit_with_any_one_bit_changed_is_refused(consent, tmp_path):
    """Each byte has its turn, with another of its bits than the one before; what reads it ends in one sentence."""
    path = tmp_path / PERMIT_FILE
    whole = path.read_bytes()
    for position in range(0, 8 * len(whole), 7):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        assert consent().refusal(), f"bit {position} does not matter"

    path.write_bytes(whole)
    assert consent().refusal() is None


def test_a_permit_that_its_researcher_signed_is_refused(consent, tmp_path):
    """Same words, another key: who asks does not approve."""
    SignedPermit.of(permit(), SigningKey.generate()).save(tmp_path)
    assert "not signed by this hospital's steward" in consent().refusal()


def test_a_signature_over_something_else_is_no_permit(consent, tmp_path, steward):
    """The steward signs many things; only what she signed as a permit is one."""
    wanted = permit(expires=NOW + 100 * DAY)
    for kind in ("signed-permit", "revocation", "proposal", "letter"):
        forged = SignedPermit(permit=wanted, signature=steward.sign(kind, wanted.digest()))
        forged.save(tmp_path)
        assert "not signed by this hospital's steward" in consent().refusal()


def test_the_permit_of_one_study_allows_no_other(consent):
    """An old approval beside a new study, and another hospital's beside ours."""
    assert "another study" in consent(study=ANOTHER).refusal()
    assert "and not for south" in consent(hospital="south").refusal()


def test_an_expired_permit_stays_expired_whatever_the_files_times_say(consent, tmp_path, clock):
    """It is judged by the hospital's clock and the signed date; a file's date is anybody's to set."""
    clock.now = NOW + DAY
    for moment in (NOW, NOW + 1000 * DAY):
        os.utime(tmp_path / PERMIT_FILE, (moment, moment))
        assert "expired" in consent().refusal()

    clock.now = NOW - 1
    assert "not valid before" in consent().refusal()


def test_a_revoked_permit_stays_revoked(consent, tmp_path, steward):
    """Also when the old permit is written anew over it, or a permit of another number is not."""
    revocation = Revocation(permit=b"\7" * 16, time=NOW + 70, reason="a patient withdrew")
    SignedRevocation.of(revocation, steward).save(tmp_path)
    assert "a patient withdrew" in consent().refusal()

    SignedPermit.of(permit(), steward).save(tmp_path)
    assert "a patient withdrew" in consent().refusal()


def test_a_revocation_that_cannot_be_read_counts_as_one(consent, tmp_path, steward):
    """Half written, of a stranger, of another permit: in doubt the hospital does not contribute."""
    path = tmp_path / "revocation.cbor"
    for doubtful in (b"", b"half", SignedRevocation.of(revocation_of(b"\7" * 16), SigningKey.generate()).to_bytes(),
                     SignedRevocation.of(revocation_of(b"\6" * 16), steward).to_bytes()):  # fmt: skip
        path.write_bytes(doubtful)
        assert consent().refusal()
    path.unlink()
    assert consent().refusal() is None


def revocation_of(number: bytes) -> Revocation:
    return Revocation(permit=number, time=NOW, reason="")
