"""One charge on the disk: what comes back is what was written, or an error that names the entry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.canonical import encode
from securefl.privacy import Charge, LedgerError, Mechanism, Occasion, PrivacyError, charge_name
from securefl.privacy.accounting import ORDERS, Step, curve
from securefl.privacy.charge import ENDLESS, SCALE, entry, opened

MECHANISM = Mechanism("patient", 0.1, 2**40, 2**79 + 1, 3, 1, 5000)
OCCASION = Occasion(b"s" * 32, 3, 1, b"a" * 32)
NAME = charge_name("fed-heart", OCCASION)


@pytest.fixture(scope="module")
def charge():
    return Charge.of("fed-heart", 2, OCCASION, MECHANISM, 2.0**-40)


def test_it_comes_back_exactly(charge):
    read, step = opened(NAME, entry(charge), "fed-heart")
    assert read == charge
    assert read.mechanism() == MECHANISM  # beyond 64 bits, and a rate that is no binary fraction
    assert read.occasion() == OCCASION
    assert step == Step.of(MECHANISM, 1, 2.0**-40)
    assert entry(read) == entry(charge)


def test_the_curve_is_rounded_up(charge):
    exact = curve(Step.of(MECHANISM, 1))
    assert charge.orders == list(ORDERS)
    for stored, rho in zip(charge.curve, exact, strict=True):
        assert rho <= stored / SCALE <= rho * (1 + 1e-8) + 2 / SCALE
    # At the collusion bound: less noise than all parties have, more than the worst case leaves.
    assert curve(Step.of(MECHANISM, 0))[0] < charge.curve[0] / SCALE < curve(Step.of(MECHANISM, 2))[0]


def test_a_loss_without_end_is_stored_as_one():
    noisy = Mechanism("patient", 1.0, 2**40, 1, 3, 1, 5)
    charge = Charge.of("d", 0, OCCASION, noisy, 0.0)
    assert set(charge.curve) == {ENDLESS}
    assert opened(charge_name("d", OCCASION), entry(charge), "d")[0] == charge


def test_names_tell_occasions_apart_and_are_safe_file_names():
    others = [
        replace(OCCASION, study=b"t" * 32),
        replace(OCCASION, round=4),
        replace(OCCASION, attempt=2),
        replace(OCCASION, announcement=b"b" * 32),
    ]
    names = {NAME, charge_name("other", OCCASION), *(charge_name("fed-heart", o) for o in others)}
    assert len(names) == 6
    assert charge_name("../x" * 200, OCCASION).replace("-", "").isalnum()
    assert all(len(name) < 100 for name in names)


def test_every_changed_bit_and_every_cut_is_seen(charge):
    data = entry(charge)
    for position in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        with pytest.raises(LedgerError, match=NAME):
            opened(NAME, bytes(flipped), "fed-heart")
    for length in range(0, len(data), 7):
        with pytest.raises(LedgerError, match=NAME):
            opened(NAME, data[:length], "fed-heart")
    with pytest.raises(LedgerError):
        opened(NAME, data + b"\0", "fed-heart")


@pytest.mark.parametrize(
    "change",
    [
        {"round": 4},
        {"attempt": 2},
        {"study": b"t" * 32},
        {"announcement": b"b" * 32},
        {"dataset": "other"},
        {"number": -1},
        {"unit": "record"},
        {"sampling_rate": "0.2"},
        {"sampling_rate": "no number"},
        {"party_variance": "0"},
        {"party_variance": "1e9"},
        {"clip_units": str(2**41)},
        {"parties": 2},
        {"colluding": 2},
        {"colluding": 3},
        {"extra_delta": "1.5"},
        {"extra_delta": "nan"},
        {"orders": [], "curve": []},
        {"orders": [*ORDERS[:-1], 2]},
        {"curve": [0] * len(ORDERS)},
        {"curve": [1]},
    ],
)
def test_a_charge_that_no_attempt_makes_is_refused_though_its_checksum_is_right(charge, change):
    forged = charge.model_copy(update=change)
    with pytest.raises(LedgerError, match=NAME) as error:
        opened(NAME, entry(forged), "fed-heart")
    assert isinstance(error.value, PrivacyError)


def test_another_kind_of_record_is_no_charge(charge):
    for data in (charge.to_bytes(), encode(["privacy-entry", {}]), encode(None), b""):
        with pytest.raises(LedgerError, match=NAME):
            opened(NAME, data, "fed-heart")
