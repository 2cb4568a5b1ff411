"""Whom a person knows: by hand only, and a changed key is an error."""

from __future__ import annotations

import pytest

from securefl.domain.cards import Card
from securefl.domain.errors import (
    AddressError,
    ChangedKeyError,
    IdentityError,
    RevokedError,
    UnknownPeerError,
)
from securefl.domain.identity import Identity
from securefl.domain.peers import Peers

EMAIL = "researcher@lab.example"


@pytest.fixture
def cards(tmp_path):
    return [Identity.open(tmp_path / str(i), EMAIL).card for i in range(3)]


@pytest.fixture
def peers(tmp_path):
    return Peers(tmp_path / "home")


def test_a_pinned_card_is_known_to_other_sessions_too(peers, cards, tmp_path):
    peers.pin(cards[0])
    peers.pin(cards[0])
    assert Peers(tmp_path / "home").get(EMAIL) == cards[0]
    assert Peers(tmp_path / "home").all() == [cards[0]]


def test_nobody_is_known_unpinned(peers):
    assert peers.all() == []
    with pytest.raises(UnknownPeerError, match="is not known here"):
        peers.get(EMAIL)
    with pytest.raises(UnknownPeerError):
        peers.remove(EMAIL)


def test_a_changed_key_is_an_error_and_changes_nothing(peers, cards):
    peers.pin(cards[0])
    with pytest.raises(ChangedKeyError, match=cards[1].fingerprint):
        peers.pin(cards[1])
    assert peers.get(EMAIL) == cards[0]


def test_who_was_removed_is_unknown_and_its_keys_never_come_back(peers, cards):
    peers.pin(cards[0])
    peers.remove(EMAIL)
    assert peers.all() == []
    with pytest.raises(UnknownPeerError, match="was removed"):
        peers.get(EMAIL)
    with pytest.raises(RevokedError, match="ask for new ones"):
        peers.pin(cards[0])
    peers.pin(cards[1])
    assert peers.get(EMAIL) == cards[1]
    peers.remove(EMAIL)
    for card in cards[:2]:
        with pytest.raises(RevokedError):
            peers.pin(card)
    peers.pin(cards[2])


def test_neither_key_of_a_removed_person_comes_back_under_any_name(peers, cards):
    gone, other = cards[:2]
    peers.pin(gone)
    peers.remove(EMAIL)
    for card in (
        Card(email=EMAIL, signing=gone.signing, sealing=other.sealing),
        Card(email=EMAIL, signing=other.signing, sealing=gone.sealing),
        gone.model_copy(update={"email": "somebody@else.example"}),
    ):
        with pytest.raises(RevokedError):
            peers.pin(card)
    assert peers.all() == []
    peers.pin(other.model_copy(update={"email": "somebody@else.example"}))


def test_a_name_that_is_none_is_no_file(peers):
    with pytest.raises(AddressError):
        peers.get("../identity/card")


def test_a_damaged_or_moved_pin_is_an_error(peers, cards, tmp_path):
    peers.pin(cards[0])
    path = tmp_path / "home" / "peers" / f"{EMAIL}.cbor"
    path.rename(path.with_name("other@lab.example.cbor"))
    with pytest.raises(IdentityError, match="holds the card of"):
        peers.get("other@lab.example")
    path.write_bytes(b"?")
    with pytest.raises(IdentityError, match="is damaged"):
        peers.get(EMAIL)
