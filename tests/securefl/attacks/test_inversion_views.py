"""What onlookers see, made by the real functions; with controls in which the protocol's protection is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from protocols import contribution, sharing
from protocols.contribution import RoundContext
from protocols.prg import width_of
from protocols.ring import Encoding, from_signed, signed
from securefl.attacks import views as seeing
from securefl.attacks.image_quality import ssim
from securefl.attacks.inversion import gradient_of, invert
from securefl.attacks.inversion_run import published_network
from securefl.attacks.views import COORDINATOR, PARTIES, PLAINTEXT, SUM, VIEWS, Round, other_patients, views
from securefl.data import Records

SHAPE, CLASSES = (1, 16, 16), 4
ENCODING = Encoding.for_bound(32, 16.0, 5)
CLIP = 1 << 24


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small():
    return published_network(SHAPE, CLASSES)


@pytest.fixture
def record():
    y, x = np.mgrid[:16, :16]
    picture = ((y - 7) ** 2 + (x - 9) ** 2 < 22) * 0.8 + (abs(y - x) < 2) * 0.2
    return picture.astype(np.float32)[None, None], np.array([2])


def round_of(size, parties=3, **more):
    context = RoundContext(
        study=bytes(32),
        round=1,
        attempt=1,
        previous=bytes(32),
        purpose="update",
        model=bytes(32),
        parties=[f"party-{k}" for k in range(1, parties + 1)],
        width=32,
        size=size,
    )
    return Round(context, "north", ENCODING, **{"factor": -0.1, "sum_factor": -0.1, **more})


def test_the_plaintext_is_the_gradient_up_to_the_encoding(small, record):
    gradient = gradient_of(small, *record)
    seen = views(round_of(gradient.size), gradient)
    assert tuple(seen) == VIEWS
    np.testing.assert_allclose(seen[PLAINTEXT], gradient, atol=ENCODING.resolution / 0.1)
    # Alone in a sum without noise, a contribution is the sum.
    assert np.array_equal(seen[SUM], seen[PLAINTEXT])


def test_buffers_are_no_part_of_a_gradient():
    gradient = np.linspace(-1, 1, 50)
    seen = views(round_of(60), gradient)
    assert {name: vector.shape for name, vector in seen.items()} == dict.fromkeys(VIEWS, (50,))


@pytest.mark.parametrize("parties", [2, 3, 5])
@pytest.mark.parametrize("view", [COORDINATOR, PARTIES])
def test_ciphertext_and_shares_are_uniform_and_new_each_time(parties, view):
    gradient = np.linspace(-1, 1, 20_000)
    round_ = round_of(gradient.size, parties)
    one, two = (views(round_, gradient)[view] * -0.1 * 2.0**ENCODING.fraction_bits for _ in range(2))
    # The mean of n uniform numbers on [-1/2, 1/2) has deviation 1 / sqrt(12 n); five of them.
    scaled = one / 2.0**32
    assert abs(scaled.mean()) < 5 / np.sqrt(12 * scaled.size)
    assert abs(np.corrcoef(scaled, gradient)[0, 1]) < 5 / np.sqrt(scaled.size)
    assert abs(scaled.std() - 12**-0.5) < 0.01
    assert (one == two).mean() < 0.001


@pytest.mark.parametrize("parties", [2, 3, 4])
def test_with_the_last_party_the_coalition_reads_the_update(parties):
    """Control: what the coalition adds up are really the shares of this update; one more, and it is there."""
    gradient = np.linspace(-1, 1, 200)
    round_ = round_of(200, parties)
    x = round_.encoded(gradient)
    keys = {party: seeing.SealingKey.generate() for party in round_.context.parties}
    publics = {party: key.public for party, key in keys.items()}
    _, envelopes = contribution.contribute(x, round_.context, "north", publics, bytes(32))
    total = seeing.coalition(envelopes, round_, keys)
    last = (contribution.vector_holder(round_.context, "north", parties) + 1) % parties
    name = round_.context.parties[last]
    content = contribution.open_share(envelopes[last], keys[name], round_.context, "north", name)
    sharing.add_share(total, content, last, contribution.share_context(round_.context, "north"))
    assert np.array_equal(total, x)


class NoMask:
    """A stream of zeros in place of the expansion of a seed."""

    def fill(self, out):
        out[:] = bytes(len(out))


def test_control_without_masks_the_parties_see_the_update(monkeypatch):
    monkeypatch.setattr(sharing, "_stream", lambda *_: NoMask())
    gradient = np.linspace(-1, 1, 200)
    seen = views(round_of(200), gradient)
    assert np.array_equal(seen[PARTIES], seen[PLAINTEXT])
    assert not np.array_equal(seen[COORDINATOR], seen[PLAINTEXT])


def test_control_without_sealing_and_masks_the_coordinator_sees_the_update(monkeypatch):
    monkeypatch.setattr(sharing, "_stream", lambda *_: NoMask())
    monkeypatch.setattr(
        contribution, "seal", lambda _key, content, _to: bytes(1120) + bytes(content) + bytes(16)
    )
    monkeypatch.setattr(contribution, "open_share", lambda envelope, *_: envelope[1120:-16])
    monkeypatch.setattr(seeing, "open_share", lambda envelope, *_: envelope[1120:-16])
    gradient = np.linspace(-1, 1, 200)
    seen = views(round_of(200), gradient)
    assert np.array_equal(seen[COORDINATOR], seen[PLAINTEXT])


def test_the_noise_of_the_opened_sum_is_all_parties_noise():
    size, deviation = 20_000, 1000
    round_ = round_of(size, parties=3, factor=1.0, sum_factor=1.0, party_variance=deviation**2)
    others = from_signed(np.full(size, 77), 32)
    seen = views(round_, np.zeros(size), others)[SUM] / ENCODING.resolution
    assert width_of(others) == 32
    assert abs(seen.mean() - 77) < 5 * deviation * np.sqrt(3 / size)
    assert seen.std() == pytest.approx(deviation * np.sqrt(3), rel=0.05)


def test_a_clip_bounds_the_integers_exactly():
    gradient = np.linspace(-1, 1, 500) * 1e3
    round_ = round_of(500, factor=-1.0, sum_factor=-1.0, clip_units=CLIP)
    units = signed(round_.encoded(gradient)).astype(object)
    assert 0.999 * CLIP**2 < (units**2).sum() <= CLIP**2
    assert round_.clip == CLIP * ENCODING.resolution


def test_other_patients_are_clipped_drawn_at_the_rate_and_not_the_target(small):
    draw = np.random.default_rng(0)
    features = draw.random((30, *SHAPE)).astype(np.float32)
    records = Records(features, draw.integers(0, CLASSES, 30), np.arange(30) // 3)
    size = sum(p.numel() for p in small.parameters())
    round_ = round_of(size, factor=-1.0, sum_factor=-1.0, clip_units=CLIP)

    def summed(left_out, rate=1.0):
        return signed(other_patients(small, {"north": records}, {"north": left_out}, rate, round_))

    everyone, without = summed([]), summed([4])
    own = records.patient_groups()[4]
    expected = round_.encoded(gradient_of(small, features[own], records.labels[own]))
    # Sums of float32 in another order: a few units of 2^-26 apart.
    assert np.abs(everyone - without - signed(expected)).max() < 1e-4 * CLIP
    assert np.sqrt(((everyone - without).astype(float) ** 2).sum()) <= CLIP
    assert not summed(range(10)).any()
    assert not np.array_equal(summed([], 0.5), summed([], 0.5))


@pytest.mark.parametrize("view", [COORDINATOR, PARTIES, SUM])
def test_the_attack_that_reads_the_plaintext_reads_no_other_view(small, record, view):
    gradient = gradient_of(small, *record)
    size = gradient.size
    round_ = round_of(size, factor=-1.0, sum_factor=-1.0, clip_units=CLIP, party_variance=CLIP**2 // 2)
    found = invert(
        small, views(round_, gradient)[view], SHAPE, CLASSES, "idlg", iterations=100, clip=round_.clip
    )
    assert ssim(found.image, record[0][0], 1.0) < 0.3


@pytest.mark.parametrize("view", [PLAINTEXT, PARTIES, SUM])
def test_control_the_same_attack_succeeds_where_the_protection_is_missing(small, record, view, monkeypatch):
    if view == PARTIES:
        monkeypatch.setattr(sharing, "_stream", lambda *_: NoMask())
    gradient = gradient_of(small, *record)
    round_ = round_of(gradient.size, factor=-1.0, sum_factor=-1.0, clip_units=CLIP)
    found = invert(
        small, views(round_, gradient)[view], SHAPE, CLASSES, "idlg", iterations=150, clip=round_.clip
    )
    assert ssim(found.image, record[0][0], 1.0) > 0.8
