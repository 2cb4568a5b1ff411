"""What roles saw: the pictures are of those numbers, and the correlation finds a leak when there is one."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from protocols.ring import from_signed
from securefl.audit import Receipt, SumCheck
from securefl.report.evidence import Evidence, gather
from securefl.report.views import BINS, View, correlation, exhibition
from securefl.run_folder import RunFolder


@pytest.fixture(scope="module")
def evidence(finished_once) -> Evidence:
    return gather(RunFolder(finished_once))


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def views(evidence: Evidence) -> dict[str, View]:
    shown = exhibition(evidence, None)
    assert shown is not None
    return {view.title: view for viewer in shown.viewers for view in viewer.views}


def test_all_roles_have_their_views(evidence: Evidence) -> None:
    shown = exhibition(evidence, None)
    assert shown is not None
    assert (shown.hospital, shown.width, shown.side) == ("east", 32, 57)
    assert [len(viewer.views) for viewer in shown.viewers] == [1, 3, 3, 1, 1]
    assert shown.adds_up is True


def test_pictures_have_one_pixel_a_number_and_nothing_where_there_is_none(evidence: Evidence) -> None:
    found = views(evidence)
    update = pixels(found["The real update of east"].common)
    assert update.shape == (57, 57, 4)
    assert (update[..., 3].ravel() == 255).sum() == 3190
    # A share of 33 bytes in an envelope makes 1,169 bytes, or 292 numbers; one of 12,761 more than a picture holds.
    shown = sorted((pixels(found[f"Envelope for party-{i}"].own)[..., 3] == 255).sum() for i in (1, 2, 3))
    assert shown == [292, 292, 57 * 57]


def test_the_common_scale_keeps_sign_and_order_and_is_the_same_for_all(evidence: Evidence) -> None:
    # Red minus blue falls from one end of the colours to the other nowhere but at the very ends.
    values = np.array([-(2**20), -(2**4), 0, 2**4, 2**20], dtype=np.int64)
    seen = {**evidence.seen, "update-east": values, "sum": values[::-1].copy()}
    found = views(replace(evidence, seen=seen))
    update, total = (
        pixels(found[t].common).reshape(-1, 4)[:5] for t in ("The real update of east", "The opened sum")
    )
    balance = update[:, 0].astype(int) - update[:, 2].astype(int)
    assert (np.diff(balance) > 0).all()
    assert (update == total[::-1]).all()


def test_the_update_is_a_spike_and_a_share_is_flat(evidence: Evidence) -> None:
    found = views(evidence)
    assert found["The real update of east"].bars[BINS // 2] == 1.0
    assert found["The real update of east"].reach < 0.001
    for party in ("party-1", "party-2", "party-3"):
        share = found[f"Share of {party}"]
        assert sum(share.bars) == pytest.approx(1)
        assert max(share.bars) < 2 / BINS
        assert share.reach > 0.99


def test_only_the_sum_is_related_to_the_update(evidence: Evidence) -> None:
    for title, view in views(evidence).items():
        if title == "The real update of east":
            assert view.correlation is None
        else:
            assert view.correlation is not None
            assert view.correlation.notable == (title == "The opened sum"), title


def test_a_share_that_leaks_is_noticed(evidence: Evidence) -> None:
    leak = from_signed(evidence.seen["update-east"] * 100, 32)
    found = views(replace(evidence, seen={**evidence.seen, "share-party-2-east": leak}))
    related = found["Share of party-2"].correlation
    assert related is not None
    assert related.value == pytest.approx(1)
    assert related.notable


def test_a_vector_in_an_envelope_would_be_noticed_if_it_were_not_sealed(evidence: Evidence) -> None:
    shown = views(evidence)
    longest = max((1, 2, 3), key=lambda i: shown[f"Envelope for party-{i}"].count)
    update = from_signed(evidence.seen["update-east"], 32)
    head = np.zeros(1088 + 32 + 1, dtype=np.uint8)
    bare = np.concatenate([head, update.view(np.uint8)])[:4096]
    found = views(replace(evidence, seen={**evidence.seen, f"envelope-party-{longest}-east": bare}))
    related = found[f"Envelope for party-{longest}"].correlation
    assert related is not None
    assert related.value == pytest.approx(1)


def test_a_short_vector_in_an_envelope_is_told_from_a_seed(evidence: Evidence) -> None:
    update = evidence.seen["update-east"][:22]
    sealed = np.arange(1136 + 1 + 22 * 4, dtype=np.int64).astype(np.uint8)
    found = views(replace(evidence, seen={"update-east": update, "envelope-party-1-east": sealed}))
    assert found["Envelope for party-1"].note == "Sealed, with a vector in it."
    assert found["Envelope for party-1"].count == 25
    found = views(
        replace(evidence, seen={"update-east": update, "envelope-party-1-east": sealed[: 1136 + 33]})
    )
    assert found["Envelope for party-1"].note == "Sealed, with a seed in it."


def test_shares_that_do_not_add_up_are_noticed(evidence: Evidence) -> None:
    wrong = evidence.seen["share-party-2-east"].copy()
    wrong[17] += 1
    shown = exhibition(replace(evidence, seen={**evidence.seen, "share-party-2-east": wrong}), None)
    assert shown is not None
    assert shown.adds_up is False


def test_what_was_not_kept_is_left_out(evidence: Evidence) -> None:
    few = {name: values for name, values in evidence.seen.items() if name in ("sum", "share-party-1-east")}
    shown = exhibition(replace(evidence, seen=few), None)
    assert shown is not None
    assert [viewer.who for viewer in shown.viewers] == ["Parties", "Everyone"]
    assert shown.adds_up is None
    assert exhibition(replace(evidence, seen={}), None) is None


def test_only_the_committee_that_opened_the_sum_is_shown(evidence: Evidence) -> None:
    # An attempt that failed with a third party left that party's views too.
    whole = {name: seen for name, seen in evidence.seen.items() if "party-3" not in name}
    update, first = evidence.seen["update-east"], evidence.seen["share-party-1-east"]
    second = from_signed(update, 32) - first
    two = replace(evidence, seen={**whole, "share-party-2-east": second, "share-party-3-east": first})
    receipt = Receipt(1, 2, ["party-1", "party-2"], ["east"], ["east"], {}, [], "", {}, SumCheck.VERIFIED)
    shown = exhibition(two, receipt)
    assert shown is not None
    titles = [view.title for viewer in shown.viewers for view in viewer.views]
    assert not any("party-3" in title for title in titles)
    assert shown.adds_up is True
    assert exhibition(two, None).adds_up is False  # type: ignore[union-attr]


def test_a_sum_without_the_update_says_so(evidence: Evidence) -> None:
    parties, absent = ["party-1", "party-2", "party-3"], {"east": "no-answer"}
    receipt = Receipt(1, 1, parties, ["east", "west"], ["west"], absent, [], "", {}, SumCheck.VERIFIED)
    assert "NOT part of it" in exhibition(evidence, receipt).viewers[-1].views[0].note  # type: ignore[union-attr]
    assert "NOT" not in exhibition(evidence, None).viewers[-1].views[0].note  # type: ignore[union-attr]


def test_correlation_against_a_second_computation() -> None:
    random = np.random.default_rng(3)
    x = random.integers(-1000, 1000, 200)
    y = 3 * x + random.integers(-2000, 2000, 200)
    found = correlation(x, y)
    a, b = x - x.mean(), y - y.mean()
    assert found is not None
    assert found.value == pytest.approx(float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())))
    assert found.error == pytest.approx(200**-0.5)
    assert correlation(x[:50], y).count == 50  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_correlation_that_is_not_defined(size: int) -> None:
    assert correlation(np.zeros(size, dtype=np.int64), np.arange(size)) is None
