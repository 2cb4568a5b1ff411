"""Words: what a verdict says in one sentence, and which claims it makes."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.norm_bounds import NormCheck
from securefl.audit import Check, Receipt, SumCheck, Verdict
from securefl.audit.verdict import rounds


def receipt(round_: int, committee: str = "abc", sum_check: SumCheck = SumCheck.VERIFIED) -> Receipt:
    hospitals = ["x", "y", "z"]
    return Receipt(round_, 1, list(committee), hospitals, hospitals, {}, [], "00", {}, sum_check)


def verdict(receipts: list[Receipt], *checks: Check, **changes: Any) -> Verdict:
    return Verdict(
        **{
            "closed": True, "checks": checks, "receipts": receipts, "closing": None, "closers": {},
            "norm_check": None, "insecure": False, "not_signed": [], **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([3], "round 3"), ([1, 2, 3], "rounds 1-3"), ([0, 2, 3, 7], "rounds 0, 2-3, 7"), ([4, 5], "rounds 4-5")],
)
def test_rounds_in_words(numbers: list[int], words: str) -> None:
    assert rounds(numbers) == words


def test_the_sentence() -> None:
    whole = [receipt(0), receipt(1)]
    assert verdict(whole).sentence == (
        "Everything holds: 2 outcomes and the closing record; the hospitals checked every sum."
    )
    assert verdict(whole[:1], closed=False).sentence == (
        "Everything holds so far: one outcome, and the study is not closed; the hospitals checked every sum."
    )
    none = [receipt(r, sum_check=SumCheck.UNVERIFIED) for r in range(2)]
    assert verdict(none).sentence.endswith(
        "the hospitals checked no sum, so each is the committee's word alone."
    )
    assert verdict([*none, receipt(2)]).sentence.endswith(
        "the hospitals did not check the sum of rounds 0-1, which is the committee's word alone."
    )
    assert verdict([], closed=False).sentence == "There is no receipt yet."
    broken = verdict(whole, Check("round 1", "fails", "It does not."), closed=False)
    assert broken.sentence == "Not verified, round 1: It does not."


def test_what_holds_and_what_does_not() -> None:
    assert verdict([receipt(0)], Check("round 0", "unverified", "")).holds
    assert not verdict([receipt(0)], closed=False).holds
    assert not verdict([receipt(0)], Check("round 0", "unchecked", "")).holds
    assert not verdict([receipt(0)], Check("round 0", "fails", "")).holds


def test_a_committee_is_named_for_the_rounds_that_it_worked_in() -> None:
    receipts = [receipt(0), receipt(1), receipt(2, "ac"), receipt(3, "ac"), receipt(4), receipt(5, "ac")]
    assert verdict(receipts).claims == [
        "rounds 0-1: committee of 3 (a, b, c): private unless 3 of them collude",
        "rounds 2-3: committee of 2 (a, c): private unless 2 of them collude",
        "round 4: committee of 3 (a, b, c): private unless 3 of them collude",
        "round 5: committee of 2 (a, c): private unless 2 of them collude",
    ]
    broken = verdict(receipts[:3], Check("round 2", "fails", "It does not."))
    assert len(broken.claims) == 1  # nothing is claimed of a receipt that does not hold


def test_the_dealer_is_part_of_the_claim() -> None:
    small = NormCheck.for_bound(10, 32, 2**20)
    large = NormCheck.for_bound(100_000, 32, 2**20)
    assert "together they read an update" in verdict([receipt(0)], norm_check=small).claims[-1]
    told = f"together they read {large.rows} linear functions of an update"
    assert told in verdict([receipt(0)], norm_check=large).claims[-1]
    assert len(verdict([receipt(0)]).claims) == 1
    assert "INSECURE" in verdict([receipt(0)], insecure=True).claims[-1]
