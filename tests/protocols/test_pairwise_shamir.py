import itertools
import os

import pytest
from Crypto.Protocol import SecretSharing
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from protocols.errors import EncodingError
from protocols.pairwise.shamir import combine, split

IRREDUCIBLE = (1 << 128) | 0b10000111


def times(a, b):
    """In GF(2^128), bit by bit: a second, slower way."""
    product = 0
    for i in range(128):
        if b >> i & 1:
            product ^= a << i
    for i in range(255, 127, -1):
        if product >> i & 1:
            product ^= IRREDUCIBLE << (i - 128)
    return product


def power(a, e):
    result = 1
    while e:
        result, a, e = times(result, a) if e & 1 else result, times(a, a), e >> 1
    return result


def interpolate(points):
    """The polynomial's value at 0 by Lagrange; the inverse is a^(2^128 - 2)."""
    total = 0
    for x, y in points:
        term = y
        for other, _ in points:
            if other != x:
                term = times(term, times(other, power(other ^ x, 2**128 - 2)))
        total ^= term
    return total


@given(st.binary(min_size=32, max_size=32), st.integers(2, 6), st.data())
def test_any_t_of_n_shares_give_the_secret(secret, t, data):
    n = data.draw(st.integers(t, 8))
    shares = split(secret, t, n)
    chosen = data.draw(st.permutations(range(n)))[:t]
    assert combine({i + 1: shares[i] for i in chosen}, t) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(16) + b"\x01" * 16, bytes(range(7, 39))])
def test_an_oracle_of_the_field_reads_the_same_secret(secret):
    shares = split(secret, 3, 5)
    blocks = b""
    for at in (0, 16):
        points = [(i, int.from_bytes(shares[i - 1][at : at + 16], "big")) for i in (1, 3, 5)]
        blocks += interpolate(points).to_bytes(16, "big")
    assert blocks == secret


def test_more_shares_than_needed_are_no_obstacle():
    secret = os.urandom(32)
    shares = split(secret, 3, 6)
    assert combine(dict(enumerate(shares, start=1)), 3) == secret


def test_too_few_shares_give_nothing_and_are_refused():
    secret = os.urandom(32)
    shares = dict(enumerate(split(secret, 4, 6), start=1))
    with pytest.raises(EncodingError, match="too few"):
        combine(dict(itertools.islice(shares.items(), 3)), 4)
    # Interpolating through three of the four needed points gives something else (but once in 2^256).
    assert combine(dict(itertools.islice(shares.items(), 3)), 3) != secret


def test_the_same_secret_is_shared_differently_each_time():
    secret = os.urandom(32)
    assert not set(split(secret, 2, 3)) & set(split(secret, 2, 3))


def test_the_two_blocks_have_polynomials_of_their_own():
    # With one polynomial for both, equal blocks would have equal shares.
    assert all(share[:16] != share[16:] for share in split(b"\x07" * 32, 2, 5))


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_a_share_looks_uniform_whatever_the_secret(secret):
    counts = [0] * 256
    for _ in range(400):
        for byte in split(secret, 2, 2)[1]:
            counts[byte] += 1
    expected = 400 * 32 / 256
    # False alarm 10^-9.
    assert sum((c - expected) ** 2 / expected for c in counts) < chi2.isf(1e-9, 255)


def test_coefficients_come_from_the_operating_system(monkeypatch):
    drawn = []

    def source(size):
        drawn.append(size)
        return os.urandom(size)

    monkeypatch.setattr(SecretSharing, "rng", source)
    split(bytes(32), 4, 5)
    assert drawn == [16] * 6


def test_the_source_is_the_operating_systems():
    from Crypto import Random

    assert SecretSharing.rng is Random.get_random_bytes is os.urandom


@pytest.mark.parametrize(("t", "n"), [(1, 3), (0, 3), (4, 3), (2, 2**16)])
def test_thresholds_that_protect_nothing_or_do_not_exist_are_refused(t, n):
    with pytest.raises(EncodingError):
        split(bytes(32), t, n)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_secrets_of_another_size_are_refused(size):
    with pytest.raises(EncodingError):
        split(bytes(size), 2, 3)


def test_points_and_shares_that_are_none_are_refused():
    shares = split(bytes(32), 2, 3)
    # The point 0 is the secret: whoever could name it would choose the result.
    with pytest.raises(EncodingError):
        combine({0: shares[0], 1: shares[1]}, 2)
    with pytest.raises(EncodingError):
        combine({1: shares[0][:31], 2: shares[1]}, 2)
    with pytest.raises(EncodingError):
        combine({1: shares[0]}, 1)
