"""What a record does not take is one sentence, whatever was typed."""

from __future__ import annotations

import pytest

from securefl.domain.errors import ProposalError
from securefl.domain.proposal import Site
from securefl.domain.wording import made
from securefl.permit import PermitError, Revocation


def test_a_record_of_what_fits():
    assert made(Site, ProposalError, steward="s", hospital="h", dataset="d") == Site(
        steward="s", hospital="h", dataset="d"
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"reason": "x" * 1001}, "Reason does not fit into a revocation: string should have at most 1000 characters."),
        ({"time": -1}, "Time does not fit into a revocation: input should be greater than or equal to 0."),
        ({"reason": None}, "Reason does not fit into a revocation: input should be a valid string."),
    ],
)  # fmt: skip
def test_the_first_field_that_does_not_fit_is_named(fields, sentence):
    with pytest.raises(PermitError) as error:
        made(Revocation, PermitError, **{"permit": bytes(16), "time": 1, "reason": "", **fields})
    assert str(error.value) == sentence
