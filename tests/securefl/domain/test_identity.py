"""A person's keys: made once, private, and refused when they are not what they were."""

from __future__ import annotations

import pytest

from securefl.domain.errors import AddressError, IdentityError
from securefl.domain.identity import Identity

EMAIL = "steward@north.example"


def test_keys_are_made_once_and_are_private(tmp_path):
    first = Identity.open(tmp_path / "home", EMAIL)
    again = Identity.open(tmp_path / "home", EMAIL)
    assert again.card == first.card
    assert again.signing.public == first.card.signing
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    for name in ("signing.key", "sealing.key", "card.cbor"):
        assert (tmp_path / "home" / "identity" / name).stat().st_mode & 0o777 == 0o600


def test_two_homes_are_two_people(tmp_path):
    one, two = Identity.open(tmp_path / "1", EMAIL), Identity.open(tmp_path / "2", EMAIL)
    assert one.fingerprint != two.fingerprint


def test_an_open_home_is_closed_to_others(tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)
    Identity.open(tmp_path / "home", EMAIL)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_nothing_secret_shows(tmp_path):
    identity = Identity.open(tmp_path, EMAIL)
    shown = repr(identity)
    for secret in (identity.signing.private_bytes(), identity.sealing.private_bytes()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_a_home_has_one_name(tmp_path):
    Identity.open(tmp_path, EMAIL)
    with pytest.raises(IdentityError, match=r"is the home of steward@north\.example"):
        Identity.open(tmp_path, "other@north.example")


def test_a_name_that_is_none_makes_nothing(tmp_path):
    with pytest.raises(AddressError):
        Identity.open(tmp_path / "home", "../evil")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "signing.key").unlink(), "is missing"),
        (lambda folder: (folder / "sealing.key").write_bytes(b"short"), "is damaged"),
        (lambda folder: (folder / "signing.key").chmod(0o644), "can be read by others"),
        (lambda folder: (folder / "card.cbor").write_bytes(b"\0"), "is damaged"),
    ],
)
def test_spoilt_keys_are_named_and_never_replaced(tmp_path, spoil, says):
    Identity.open(tmp_path, EMAIL)
    spoil(tmp_path / "identity")
    before = {path.name: path.read_bytes() for path in (tmp_path / "identity").iterdir()}
    with pytest.raises(IdentityError, match=says):
        Identity.open(tmp_path, EMAIL)
    assert {path.name: path.read_bytes() for path in (tmp_path / "identity").iterdir()} == before


def test_keys_of_another_identity_are_noticed(tmp_path):
    Identity.open(tmp_path / "1", EMAIL)
    Identity.open(tmp_path / "2", EMAIL)
    key = (tmp_path / "2" / "identity" / "signing.key").read_bytes()
    (tmp_path / "1" / "identity" / "signing.key").write_bytes(key)
    with pytest.raises(IdentityError, match="not the ones on its card"):
        Identity.open(tmp_path / "1", EMAIL)


def test_an_interrupted_beginning_is_begun_again(tmp_path):
    Identity.open(tmp_path, EMAIL)
    (tmp_path / "identity" / "card.cbor").unlink()
    assert Identity.open(tmp_path, EMAIL).email == EMAIL
