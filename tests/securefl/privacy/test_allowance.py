"""A permit's epsilon: the ledger keeps a study to the smaller of its own promise and what the steward allows."""

from __future__ import annotations

import pytest

from protocols.noise import party_variance
from securefl.errors import RefusedError
from securefl.privacy import Budget, Mechanism, Occasion, PrivacyLedger, spent
from securefl.roles.host import Store

DELTA, STUDY, OTHER = 1e-5, b"s" * 32, b"o" * 32
MECHANISM = Mechanism("patient", 0.2, 2**16, party_variance(2**16, 2.0, 3, 1), 3, 1, 1000)
FOUR, EIGHT = (
    Budget(epsilon=spent(MECHANISM, rounds, DELTA, 1).pld * (1 + 1e-9), delta=DELTA) for rounds in (4, 8)
)


def attempts(store, promise, allowance, study=STUDY):
    """How many attempts are charged before one is refused, and the refusal."""
    ledger = PrivacyLedger("mri", store)
    for attempt in range(1, 50):
        occasion = Occasion(study, 1, attempt, bytes([attempt]) * 32)
        try:
            ledger.check(MECHANISM, occasion, promise, allowance=allowance)
        except RefusedError as error:
            return attempt - 1, str(error)
        store.put(*ledger.enter(MECHANISM, occasion))
    raise AssertionError("nothing was ever refused")


@pytest.mark.parametrize(
    ("promise", "allowance", "most", "whose"),
    [
        (EIGHT, FOUR, 4, "permit allows"),
        (FOUR, EIGHT, 4, "study promises"),
        (EIGHT, None, 8, "study promises"),  # the control: without the permit's, twice as many
        (None, FOUR, 4, "permit allows"),
        (EIGHT, Budget(epsilon=1e6, delta=DELTA, unit="hospital"), 0, "permit allows"),
    ],
)
def test_the_smaller_one_counts(tmp_path, promise, allowance, most, whose):
    count, sentence = attempts(Store(tmp_path), promise, allowance)
    assert (count, whose in sentence) == (most, True), sentence


def test_an_allowance_is_for_its_own_study(tmp_path):
    store = Store(tmp_path)
    assert attempts(store, None, FOUR, OTHER)[0] == 4
    assert attempts(store, None, FOUR)[0] == 4
