"""A permit holds for what the steward signed, while it is valid, and until it is revoked; all else is a refusal."""

from __future__ import annotations

import pytest

from protocols.errors import EncodingError, SignatureError
from protocols.signing import SigningKey
from securefl.consent import Consent
from securefl.errors import ConsortiumError
from securefl.member import Places
from securefl.permit import (
    MAX_BYTES,
    PERMIT_FILE,
    REVOCATION_FILE,
    Permit,
    PermitError,
    Revocation,
    SignedPermit,
    SignedRevocation,
)

STUDY, OTHER = b"s" * 32, b"o" * 32
BEGIN, END = 1_000, 2_000
PERMIT = Permit(
    number=b"n" * 16, study=STUDY, proposal=b"p" * 32, hospital="va", dataset="mri", purpose="tumours", runs=1,
    epsilon="", delta="", unit="", not_before=BEGIN, expires=END, steward="steward@va", researcher="r@uni", reason="",
)  # fmt: skip
REVOCATION = Revocation(permit=PERMIT.number, time=1_500, reason="the ethics board withdrew it.")


def changed(record, **fields):
    return type(record)(**{**record.body(), **fields})


class Clock:
    """A clock that stands where it is put."""

    now = 1_500.0

    def __call__(self):
        return self.now


@pytest.fixture
def steward():
    return SigningKey.generate()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def consent(tmp_path, steward, clock):
    """Consent to a study whose permit is signed, valid and not revoked."""
    SignedPermit.of(PERMIT, steward).save(tmp_path)
    return Consent(tmp_path, steward.public, STUDY, "va", clock)


def test_a_permit_that_fits_allows(consent, tmp_path):
    assert consent.refusal() is None
    assert consent.permit() == PERMIT
    assert (tmp_path / PERMIT_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"study": OTHER}, "another study"),
        ({"hospital": "b"}, "for b and not for va"),
        ({"expires": 1_500}, "expired at 1970-01-01 00:25:00 UTC"),
        ({"not_before": 1_501}, "not valid before 1970-01-01 00:25:01 UTC"),
    ],
)
def test_a_signed_permit_for_something_else_does_not(consent, tmp_path, steward, fields, sentence):
    SignedPermit.of(changed(PERMIT, **fields), steward).save(tmp_path)
    assert sentence in consent.refusal()
    SignedPermit.of(PERMIT, steward).save(tmp_path)  # the control: asked again, it reads again
    assert consent.refusal() is None


def test_it_begins_and_expires_by_the_hospitals_own_clock(consent, clock):
    said = []
    for now in (BEGIN - 0.5, BEGIN, END - 0.5, END, float(2**40)):
        clock.now = now
        said.append(consent.refusal() is None)
    assert said == [False, True, True, False, False]


def test_nothing_but_the_stewards_signature_counts(consent, tmp_path, steward):
    stranger = SigningKey.generate()
    good = SignedPermit.of(PERMIT, steward)
    for bad in (
        SignedPermit.of(PERMIT, stranger),
        SignedPermit(permit=changed(PERMIT, runs=9), signature=good.signature),  # changed after it was signed
        SignedPermit(permit=PERMIT, signature=good.signature[:-1]),
        SignedPermit(permit=PERMIT, signature=steward.sign(Revocation.kind, PERMIT.digest())),
    ):
        bad.save(tmp_path)
        assert "not signed by this hospital's steward" in consent.refusal()
        with pytest.raises(SignatureError):
            bad.checked(steward.public)
    good.save(tmp_path)
    assert consent.refusal() is None


def test_no_file_and_a_damaged_file_are_no_consent(consent, tmp_path):
    file = tmp_path / PERMIT_FILE
    whole = file.read_bytes()
    for data in (b"", whole[:-1], whole + b"\0", b"\xff" * 100, REVOCATION.to_bytes()):
        file.write_bytes(data)
        assert "damaged" in consent.refusal()
    file.write_bytes(whole + bytes(MAX_BYTES))
    assert "too large" in consent.refusal()
    file.unlink()
    assert "has not approved" in consent.refusal()
    file.mkdir()
    assert "cannot be read" in consent.refusal()


def test_a_revocation_ends_it_and_says_why(consent, tmp_path, steward):
    SignedRevocation.of(REVOCATION, steward).save(tmp_path)
    assert consent.refusal() == (
        "The steward revoked the permit at 1970-01-01 00:25:00 UTC: the ethics board withdrew it."
    )
    with pytest.raises(PermitError):
        consent.permit()


def test_a_revocation_that_is_not_whole_or_not_the_stewards_refuses_too(consent, tmp_path, steward):
    # A hospital never goes on beside a revocation that it does not understand.
    SignedRevocation.of(REVOCATION, SigningKey.generate()).save(tmp_path)
    assert "did not sign" in consent.refusal()
    SignedRevocation.of(changed(REVOCATION, permit=b"m" * 16), steward).save(tmp_path)
    assert "of another permit" in consent.refusal()
    (tmp_path / REVOCATION_FILE).write_bytes(b"half")
    assert "damaged" in consent.refusal()
    (tmp_path / REVOCATION_FILE).unlink()
    assert consent.refusal() is None


def test_an_epsilon_allows_nothing_to_a_study_without_noise(tmp_path, steward, clock):
    limited = changed(PERMIT, epsilon="1.5", delta="1e-5", unit="patient")
    assert limited.limit() == (1.5, 1e-5, "patient")
    SignedPermit.of(limited, steward).save(tmp_path)
    private = Consent(tmp_path, steward.public, STUDY, "va", clock)
    public = Consent(tmp_path, steward.public, STUDY, "va", clock, private=False)
    assert private.refusal() is None
    assert "no differential privacy" in public.refusal()


@pytest.mark.parametrize(
    "fields",
    [
        {"number": b"n"}, {"study": b"s"}, {"proposal": b""}, {"hospital": "../va"}, {"runs": 0}, {"expires": BEGIN},
        {"not_before": -1}, {"epsilon": "1"}, {"unit": "patient"}, {"reason": "x" * 1001},
        {"epsilon": "0", "delta": "1e-5", "unit": "patient"}, {"epsilon": "nan", "delta": "1e-5", "unit": "patient"},
        {"epsilon": "inf", "delta": "1e-5", "unit": "patient"}, {"epsilon": "1", "delta": "1", "unit": "patient"},
        {"epsilon": "much", "delta": "1e-5", "unit": "patient"},
        {"epsilon": "1e-999", "delta": "1e-5", "unit": "patient"},
    ],
)  # fmt: skip
def test_a_permit_that_means_nothing_is_not_read(fields):
    assert Permit.from_value([Permit.kind, PERMIT.body()]) == PERMIT
    with pytest.raises(EncodingError):
        Permit.from_value([Permit.kind, {**PERMIT.body(), **fields}])


def test_a_stewards_key_has_32_bytes(tmp_path):
    with pytest.raises(PermitError, match="32 bytes"):
        Consent(tmp_path, b"short", STUDY, "va")


def test_member_toml_names_permit_and_steward(tmp_path, steward):
    file = tmp_path / "member.toml"
    Places(name="va", role="hospital", steward=steward.public.hex(), permit="p").save(file)
    places = Places.load(file)
    assert (places.permit, places.steward) == (tmp_path / "p", steward.public.hex())
    file.write_text('name = "va"\nrole = "hospital"\n')
    Places.load(file).save(file)  # a folder that nobody asked for is not written
    assert Places.load(file).steward == ""


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('role = "hospital"\npermit = "p"', "a permit wants steward"),
        (f'role = "party"\nsteward = "{"0" * 64}"', "only a hospital has a steward"),
        ('role = "hospital"\nsteward = "00"', "malformed at steward"),
    ],
)
def test_a_permit_that_nobody_would_check_is_malformed(tmp_path, line, sentence):
    file = tmp_path / "member.toml"
    file.write_text(f'name = "va"\n{line}\n')
    with pytest.raises(ConsortiumError, match=sentence):
        Places.load(file)
