"""Where the masks' keys come from, how long they are, and what they are bound to."""

import os
import secrets

import pytest

from protocols.errors import EncodingError, SealError
from protocols.pairwise import Keys, Policy, Terms
from protocols.pairwise import client as client_module
from protocols.pairwise.client import Client
from protocols.pairwise.keys import mask_seed, new_secret, open_shares, public_of, seal_shares
from protocols.pairwise.masking import commit_own
from protocols.prg import SEED_BYTES, new_seed

ROSTER = bytes(32)


def keys(name, c, s):
    return Keys(terms=bytes(32), name=name, c_public=public_of(c), s_public=public_of(s), setting=b"")


@pytest.fixture
def pair():
    secrets_of = {name: (new_secret(), new_secret()) for name in "uv"}
    return {name: (c, s, keys(name, c, s)) for name, (c, s) in secrets_of.items()}


def test_both_of_a_pair_get_the_same_key_of_256_bits(pair):
    (_, s_u, u), (_, s_v, v) = pair["u"], pair["v"]
    key = mask_seed(s_u, ROSTER, u, v)
    assert len(key) == 32 == SEED_BYTES
    assert key == mask_seed(s_v, ROSTER, v, u) == mask_seed(s_v, ROSTER, u, v)


def test_all_256_bits_of_the_pairs_keys_vary(pair):
    _, s_u, u = pair["u"]
    ones, zeros = 0, 0
    for _ in range(100):  # a bit that is constant by chance: 512 * 2^-100
        s = new_secret()
        key = int.from_bytes(mask_seed(s_u, ROSTER, u, keys("v", new_secret(), s)), "big")
        ones |= key
        zeros |= ~key & (2**256 - 1)
    assert ones == zeros == 2**256 - 1


def test_all_256_bits_of_a_clients_own_key_vary():
    ones, zeros = 0, 0
    for _ in range(100):
        key = int.from_bytes(new_seed(), "big")
        ones |= key
        zeros |= ~key & (2**256 - 1)
    assert ones == zeros == 2**256 - 1


def test_a_clients_own_key_comes_from_the_operating_system(monkeypatch):
    assert client_module.new_seed is new_seed
    drawn = []

    def source(size):
        drawn.append(size)
        return os.urandom(size)

    monkeypatch.setattr(secrets, "token_bytes", source)
    new_seed()
    assert drawn == [32]


def test_a_pairs_key_is_bound_to_names_keys_and_roster(pair):
    (_, s_u, u), (_, _, v) = pair["u"], pair["v"]
    key = mask_seed(s_u, ROSTER, u, v)
    assert key != mask_seed(s_u, b"\x01" * 32, u, v)
    assert key != mask_seed(s_u, ROSTER, u, v.model_copy(update={"name": "w"}))
    assert key != mask_seed(s_u, ROSTER, u, v.model_copy(update={"s_public": public_of(new_secret())}))


def test_a_key_of_neither_is_refused(pair):
    with pytest.raises(EncodingError, match="neither"):
        mask_seed(new_secret(), ROSTER, pair["u"][2], pair["v"][2])


def test_every_exchange_has_new_keys():
    client = Client("u", Policy())
    seen = set()
    for number in range(1, 6):
        terms = Terms(
            run="r", exchange=number, purpose="train", threshold=3, width=32, signed=False, details=b""
        )
        sent = client.advertise(terms).keys
        seen |= {sent.c_public, sent.s_public, client.memory.c_secret, client.memory.s_secret}
    assert len(seen) == 20


def test_sealed_shares_open_for_their_recipient_only(pair):
    (c_u, _, u), (c_v, _, v) = pair["u"], pair["v"]
    sealed = seal_shares(c_u, ROSTER, u, v, b"s" * 32, b"b" * 32)
    assert open_shares(c_v, ROSTER, u, v, sealed) == (b"s" * 32, b"b" * 32)
    assert b"s" * 16 not in sealed
    for key, roster, sender, recipient in (
        (new_secret(), ROSTER, u, v),
        (c_v, b"\x01" * 32, u, v),
        (c_v, ROSTER, u.model_copy(update={"name": "w"}), v),
        (c_u, ROSTER, v, u),  # as if the other had sent it: the same pair, the other direction
    ):
        with pytest.raises(SealError):
            open_shares(key, roster, sender, recipient, sealed)
    for i in range(len(sealed)):
        changed = sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :]
        with pytest.raises(SealError):
            open_shares(c_v, ROSTER, u, v, changed)


def test_sealing_twice_never_repeats_a_nonce(pair):
    (c_u, _, u), (_, _, v) = pair["u"], pair["v"]
    assert len({seal_shares(c_u, ROSTER, u, v, bytes(32), bytes(32))[:12] for _ in range(50)}) == 50


def test_a_commitment_is_bound_to_its_client_and_roster():
    b = new_seed()
    assert (
        len({commit_own(b, ROSTER, "u"), commit_own(b, ROSTER, "v"), commit_own(b, b"\x01" * 32, "u")}) == 3
    )
