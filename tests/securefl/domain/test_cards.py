"""A card is its own key's word, and its fingerprint covers all that is on it."""

from __future__ import annotations

import pytest

from securefl.domain.cards import Card, SignedCard, read_card, sign_card
from securefl.domain.errors import CardError
from securefl.domain.identity import Identity

EMAIL = "steward@north.example"


@pytest.fixture
def identity(tmp_path):
    return Identity.open(tmp_path, EMAIL)


def test_a_card_comes_back(identity):
    assert read_card(identity.signed_card) == identity.card


def test_the_fingerprint_covers_name_and_both_keys(identity, tmp_path):
    card, other = identity.card, Identity.open(tmp_path / "2", EMAIL).card
    changed = [
        card.model_copy(update={"email": "other@north.example"}),
        card.model_copy(update={"signing": other.signing}),
        card.model_copy(update={"sealing": other.sealing}),
    ]
    assert len({card.fingerprint, *(c.fingerprint for c in changed)}) == 4
    assert len(card.fingerprint) == 29
    assert [len(group) for group in card.fingerprint.split()] == [4] * 6


def test_a_card_that_its_key_did_not_sign_is_none(identity, tmp_path):
    other = Identity.open(tmp_path / "2", "other@north.example")
    signature = SignedCard.from_bytes(other.signed_card).signature
    forged = SignedCard(card=identity.card, signature=signature).to_bytes()
    with pytest.raises(CardError, match="its own key has signed"):
        read_card(forged)


@pytest.mark.parametrize("data", [b"", b"\0", b"card", bytes(3000)])
def test_other_bytes_are_none(data):
    with pytest.raises(CardError):
        read_card(data)


@pytest.mark.parametrize("change", [{"email": "../x"}, {"email": "X@y.example"}, {"sealing": b"short"}])
def test_a_signed_card_must_also_make_sense(identity, change):
    card = Card(**{**identity.card.model_dump(), **change})
    with pytest.raises(CardError):
        read_card(sign_card(card, identity.signing))
