"""What the page says of the receipts: the audit's verdict, who was left out and why, and what nobody signed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from protocols.chain import SignedOutcome
from securefl.audit import verify
from securefl.report import write_report
from securefl.report.evidence import gather
from securefl.report.receipts import Absence, absences, mark
from securefl.roles.records import CLOSING, receipt_name, sum_name
from securefl.run_folder import RunFolder


def change_signature(run: RunFolder) -> None:
    store = run.store()
    signed = SignedOutcome.from_bytes(store[receipt_name(4)])
    first, _, third = signed.signatures
    store.put(receipt_name(4), signed.model_copy(update={"signatures": [first, first, third]}).to_bytes())


def damage(run: RunFolder) -> None:
    run.store().put(receipt_name(4), b"not a receipt")


def damage_closing(run: RunFolder) -> None:
    run.store().put(CLOSING, b"not a record")


def change_sum(run: RunFolder) -> None:
    store = run.store()
    total = bytearray(store[sum_name(7)])
    total[5] ^= 1
    store.put(sum_name(7), bytes(total))


def change_study(run: RunFolder) -> None:
    file = run.path / "study" / "study.toml"
    file.write_text(file.read_text().replace("seed = 7", "seed = 8"))


def text(html: str) -> str:
    """The page's words, without markup."""
    plain = re.sub(r"<[^>]*>", " ", html.replace("&nbsp;", " ").replace("&#39;", "'"))
    return " ".join(plain.split())


def test_who_was_left_out_stands_in_the_receipts_and_why_in_the_history(finished: RunFolder) -> None:
    found = absences(verify(finished.path), finished.history())
    script = "It has <script>alert(1)</script> in it."
    long = "The committee found its update longer than the study's norm bound."
    assert found == [
        Absence(5, "west", "no-answer", script, False),
        Absence(7, "north", "norm-too-large", long, True),
    ]
    assert [absence.explanation for absence in absences(verify(finished.path), [])] == ["", ""]


def test_the_page_names_them(finished: RunFolder) -> None:
    words = text(write_report(finished).read_text())
    assert "5 west not contributed no-answer" in words
    assert "7 north by the norm check norm-too-large The committee found" in words
    finished.history_file.unlink()
    assert "7 north by the norm check norm-too-large not kept" in text(write_report(finished).read_text())


def test_every_round_has_its_line(finished: RunFolder) -> None:
    words = text(write_report(finished).read_text())
    signed = "✓ party-1 ✓ party-2 ✓ party-3"
    digests = [receipt.digest[:16] for receipt in verify(finished.path).receipts]
    assert f"1 1 all 4 ✓ yes {digests[1]} {signed}" in words
    assert f"5 1 3 of 4; without west ( no-answer ) ✓ yes {digests[5]} {signed}" in words
    assert f"7 1 3 of 4; without north ( norm-too-large ) ✓ yes {digests[7]} {signed}" in words
    assert f"9 1 all 4 no {digests[9]} {signed}" in words
    assert f"end closes 13 outcomes 1 not {digests[12]}" in words
    assert (
        "Rounds 0-12: committee of 3 (party-1, party-2, party-3): private unless 3 of them collude." in words
    )


def test_a_smaller_committee_is_shown_with_its_smaller_promise(smaller: RunFolder) -> None:
    words = text(write_report(smaller).read_text())
    assert "Rounds 1-2: committee of 2 (party-1, party-3): private unless 2 of them collude." in words
    assert "Where 2 worked alone, those 2 can." in words
    digest = verify(smaller.path).receipts[2].digest[:16]
    assert f"2 1 all 4 ✓ yes {digest} ✓ party-1 ✓ party-3 end" in words
    assert "All shares of one update, added up, give that update exactly" in words


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (change_signature, "The outcome of round 4 is not signed by every party. Not by party-2."),
        (damage, "Not verified, round 4: receipts/receipt-000004 is damaged."),
        (damage_closing, "Not verified, closing: receipts/closing is damaged."),
        (change_sum, "Not verified, round 7: receipts/sum-000007 is not the sum that the parties signed."),
        (change_study, "Not verified, study: study/study.toml, the members (consortium.toml)"),
    ],
)
def test_a_fault_is_an_alarm_in_two_places(
    finished: RunFolder, fault: Callable[[RunFolder], None], words: str
) -> None:
    fault(finished)
    html = write_report(finished).read_text()
    assert 'class="alarm"' in html
    assert text(html).count(words) == 2


def test_a_whole_run_is_no_alarm(finished: RunFolder) -> None:
    assert 'class="alarm"' not in write_report(finished).read_text()


def test_the_party_whose_signature_fails_is_marked(finished: RunFolder) -> None:
    change_signature(finished)
    words = text(write_report(finished).read_text())
    assert words.count("✗ party-2") == 1
    assert "not reached" in words


def test_receipts_before_a_damaged_one_are_still_shown(finished: RunFolder) -> None:
    damage(finished)
    words = text(write_report(finished).read_text())
    assert words.count("✓ party-2") == 4
    assert "Rounds 0-3: committee of 3" in words
    assert "Every hospital was in every sum" not in words


def test_the_mark_before_the_sentence(
    finished: RunFolder, begun: RunFolder, just_prepared: RunFolder
) -> None:
    assert mark(verify(finished.path)) == ("✓", "good")
    assert mark(verify(begun.path)) == ("✓", "good")
    assert mark(verify(just_prepared.path)) == ("–", "soft")
    change_sum(finished)
    assert mark(verify(finished.path)) == ("✗", "bad")


def test_an_insecure_run_says_so_at_the_top(finished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = replace(verify(finished.path), insecure=True)
    monkeypatch.setattr("securefl.report.page.verify", lambda _folder: verdict)
    words = text(write_report(finished).read_text())
    assert "This was an insecure run: on purpose, nobody checked norms or sums." in words


def test_the_terms_are_those_of_the_run(finished: RunFolder) -> None:
    terms = gather(finished).terms
    assert terms is not None
    assert terms.norm_bound == 1.0
    info = finished.path / "run.json"
    info.write_text(info.read_text().replace('"insecure_unchecked": false', '"insecure_unchecked": true'))
    assert gather(finished).terms.unchecked  # type: ignore[union-attr]
