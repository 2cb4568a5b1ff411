"""The check of the receipts, each fault beside the whole chain that shows that the check can pass."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from protocols.chain import SignedOutcome
from securefl.report import write_report
from securefl.report.evidence import gather
from securefl.report.receipts import Receipts, check_receipts
from securefl.roles.coordinator import CLOSING, receipt_name, sum_name
from securefl.run_folder import RunFolder


def checked(run: RunFolder) -> Receipts:
    return check_receipts(run, gather(run))


def change_signature(run: RunFolder) -> None:
    store = run.store()
    signed = SignedOutcome.from_bytes(store[receipt_name(4)])
    forged = bytearray(signed.signatures[1])
    forged[0] ^= 1
    changed = [signed.signatures[0], bytes(forged), signed.signatures[2]]
    store.put(receipt_name(4), signed.model_copy(update={"signatures": changed}).to_bytes())


def change_content(run: RunFolder) -> None:
    store = run.store()
    signed = SignedOutcome.from_bytes(store[receipt_name(4)])
    outcome = signed.outcome.model_copy(update={"included": ["east", "north"]})
    store.put(receipt_name(4), signed.model_copy(update={"outcome": outcome}).to_bytes())


def drop_last(run: RunFolder) -> None:
    run.store().put(receipt_name(12), b"")


def damage(run: RunFolder) -> None:
    run.store().put(receipt_name(4), b"not a receipt")


def damage_closing(run: RunFolder) -> None:
    run.store().put(CLOSING, b"not a record")


def swap(run: RunFolder) -> None:
    store = run.store()
    three, four = store[receipt_name(3)], store[receipt_name(4)]
    store.put(receipt_name(3), four)
    store.put(receipt_name(4), three)


def change_sum(run: RunFolder) -> None:
    store = run.store()
    total = bytearray(store[sum_name(7)])
    total[5] ^= 1
    store.put(sum_name(7), bytes(total))


def other_model(run: RunFolder) -> None:
    summary = json.loads(run.summary_file.read_text())
    run.summary_file.write_text(json.dumps({**summary, "model": "ab" * 32}))


def other_study(run: RunFolder) -> None:
    file = run.path / "study" / "study.toml"
    file.write_text(file.read_text().replace("seed = 7", "seed = 8"))


def test_a_whole_chain_holds(finished: RunFolder) -> None:
    receipts = checked(finished)
    assert receipts.verdict == "complete"
    assert [link.round for link in receipts.links] == list(range(13))
    assert all(all(link.signers.values()) and len(link.signers) == 3 for link in receipts.links)
    assert all(receipts.closers.values())
    assert len(receipts.links[5].included) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (change_signature, "round 4 is not signed by every party"),
        (change_content, "round 4 is not signed by every party"),
        (drop_last, "does not close these 12 outcomes"),
        (damage, "A receipt is damaged: that of round 4"),
        (damage_closing, "A receipt is damaged"),
        (swap, "stands where round 3 belongs"),
        (change_sum, "opened sum of round 7"),
        (other_model, "another model"),
        (other_study, "not the ones that this run was started with"),
    ],
)
def test_a_fault_is_found(finished: RunFolder, fault: Callable[[RunFolder], None], words: str) -> None:
    fault(finished)
    receipts = checked(finished)
    assert receipts.verdict == "broken"
    assert words in receipts.sentence


def test_a_broken_chain_is_an_alarm_on_the_page(finished: RunFolder) -> None:
    assert 'class="alarm"' not in write_report(finished).read_text()
    change_sum(finished)
    html = write_report(finished).read_text()
    assert 'class="alarm"' in html
    assert html.count("The opened sum of round 7 is not the one that was signed.") == 2


def test_the_party_whose_signature_fails_is_named(finished: RunFolder) -> None:
    change_signature(finished)
    receipts = checked(finished)
    assert receipts.links[4].signers == {"party-1": True, "party-2": False, "party-3": True}
    assert "✗&nbsp;party-2" in write_report(finished).read_text()


def test_receipts_before_a_damaged_one_are_still_shown(finished: RunFolder) -> None:
    damage(finished)
    assert [link.round for link in checked(finished).links] == [0, 1, 2, 3]


def test_a_study_that_goes_on_holds_so_far(begun: RunFolder) -> None:
    receipts = checked(begun)
    assert receipts.verdict == "open"
    assert receipts.closing is None
    drop = SignedOutcome.from_bytes(begun.store()[receipt_name(1)])
    begun.store().put(receipt_name(1), drop.model_copy(update={"signatures": drop.signatures[:2]}).to_bytes())
    assert checked(begun).verdict == "broken"


def test_without_keys_nothing_is_said_to_hold(finished: RunFolder) -> None:
    finished.consortium_file.unlink()
    receipts = checked(finished)
    assert receipts.verdict == "unchecked"
    assert len(receipts.links) == 13
