"""Letters over a hostile folder: each once, from who signed it, and none is lost."""

from __future__ import annotations

import os
import shutil

import pytest

from securefl.domain import mail as mail_module
from securefl.domain import outbox, quarantine, relay, seen
from securefl.domain import peers as peers_module
from securefl.domain.errors import (
    AddressError,
    CardError,
    ChangedKeyError,
    FrameTooLargeError,
    RelayError,
    UnknownPeerError,
)
from securefl.domain.frames import HEAD_BYTES, LARGEST_BODY, MAGIC, seal_frame
from securefl.domain.log import verify
from tests.securefl.domain.conftest import OTHER, RESEARCHER, STEWARD
from tests.work import calls


def _bodies(person, topics=""):
    return [letter.body for letter in person.mail.receive(topics)]


def test_letters_come_once_in_order_and_to_the_topic_asked_for(world):
    steward, researcher = world.pair()
    numbers = [
        steward.mail.send(RESEARCHER, topic, b"%d" % i) for i, topic in enumerate(["a", "b/x", "a", "b/y"])
    ]
    assert numbers == [1, 2, 3, 4]
    assert _bodies(researcher, "b/") == [b"1", b"3"]
    assert _bodies(researcher, ("c", "a")) == [b"0", b"2"]
    assert _bodies(researcher) == []
    assert steward.mail.send(RESEARCHER, "a", b"4") == 5
    assert _bodies(researcher) == [b"4"]
    assert researcher.log.entries() == []


def test_another_session_of_the_same_person_goes_on(world):
    steward, researcher = world.pair()
    steward.mail.send(RESEARCHER, "a", b"1")
    again = world.person(STEWARD)
    assert again.mail.send(RESEARCHER, "a", b"2") == 2
    assert _bodies(researcher) == [b"1", b"2"]
    assert _bodies(world.person(RESEARCHER)) == []


def test_a_letter_that_was_not_handled_comes_again(world):
    steward, researcher = world.pair()
    for i in range(3):
        steward.mail.send(RESEARCHER, "a", b"%d" % i)
    letters = researcher.mail.each()
    assert next(letters).body == b"0"
    assert next(letters).body == b"1"
    letters.close()  # as an error, or a crash, while the second was handled
    assert _bodies(world.person(RESEARCHER)) == [b"1", b"2"]


def test_no_byte_of_content_is_on_the_share(world):
    steward, researcher = world.pair()
    steward.mail.send(RESEARCHER, "canary/topic", b"CANARY")
    written = b"".join(p.read_bytes() for p in world.relay.rglob("*") if p.is_file())
    assert b"CANARY" not in written
    assert b"canary" not in written
    researcher.mail.fetch()
    own = b"".join(p.read_bytes() for p in researcher.home.rglob("*") if p.is_file())
    assert b"CANARY" in own  # the control: the search finds it where it is


def test_homes_hold_nothing_that_others_can_read(world):
    steward, researcher = world.pair()
    steward.mail.send(RESEARCHER, "a", b"1")
    researcher.mail.fetch()
    for person in (steward, researcher):
        for path in [person.home, *(path for path in person.home.rglob("*") if path.is_file())]:
            assert path.stat().st_mode & 0o077 == 0, path


# ---- who is who ----


def test_only_pinned_people_are_written_to_or_read(world):
    steward, researcher = world.person(STEWARD), world.person(RESEARCHER)
    with pytest.raises(UnknownPeerError):
        steward.mail.send(RESEARCHER, "a", b"")
    researcher.peers.pin(researcher.mail.card_of(STEWARD))
    researcher.mail.send(STEWARD, "a", b"1")
    assert _bodies(steward) == []
    steward.peers.pin(steward.mail.card_of(RESEARCHER))
    assert _bodies(steward) == [b"1"]  # the control: it was there


def test_a_removed_persons_letters_do_nothing_even_those_that_came_before(world):
    steward, researcher = world.pair()
    researcher.mail.send(STEWARD, "a", b"before")
    steward.mail.fetch()
    steward.peers.remove(RESEARCHER)
    researcher.mail.send(STEWARD, "a", b"after")
    assert _bodies(steward) == []
    assert steward.logged("quarantined")[0].facts["code"] == "removed-sender"
    with pytest.raises(UnknownPeerError, match="was removed"):
        steward.mail.send(RESEARCHER, "a", b"")


def test_new_keys_of_a_removed_person_begin_anew(world):
    steward, researcher = world.pair()
    researcher.mail.send(STEWARD, "a", b"old")
    assert _bodies(steward) == [b"old"]
    steward.peers.remove(RESEARCHER)
    shutil.rmtree(world.relay / RESEARCHER)
    renewed = world.person(RESEARCHER, home="renewed")
    world.meet(steward, renewed)
    assert renewed.mail.send(STEWARD, "a", b"new") == 1
    assert _bodies(steward) == [b"new"]
    assert steward.mail.send(RESEARCHER, "a", b"back") == 1
    assert _bodies(renewed) == [b"back"]


def test_two_with_one_name_the_second_is_told_and_the_first_goes_on(world):
    steward, researcher = world.pair()
    second = world.person(STEWARD, home="second", introduce=False)
    with pytest.raises(ChangedKeyError, match="Choose another name"):
        second.mail.introduce()
    steward.mail.send(RESEARCHER, "a", b"first")
    assert _bodies(researcher) == [b"first"]
    # It overwrites the first one's card, and writes under its name.
    (world.relay / STEWARD / "card.cbor").write_bytes(second.identity.signed_card)
    with pytest.raises(ChangedKeyError, match=second.identity.fingerprint):
        researcher.mail.card_of(STEWARD)
    second.peers.pin(researcher.identity.card)
    second.mail.send(RESEARCHER, "a", b"second")
    steward.mail.send(RESEARCHER, "a", b"first again")
    assert _bodies(researcher) == [b"first again"]
    assert researcher.logged("quarantined")[0].facts["code"] == "bad-signature"


def test_a_card_is_missing_foreign_or_spoilt(world):
    steward, _ = world.pair()
    with pytest.raises(CardError, match="must open a session first"):
        steward.mail.card_of(OTHER)
    (world.relay / OTHER).mkdir()
    card = world.relay / OTHER / "card.cbor"
    card.write_bytes((world.relay / RESEARCHER / "card.cbor").read_bytes())
    with pytest.raises(CardError, match=r"is researcher@lab\.example's"):
        steward.mail.card_of(OTHER)
    card.write_bytes(bytes(10_000))
    with pytest.raises(CardError):
        steward.mail.card_of(OTHER)
    card.unlink()
    card.symlink_to(world.relay / RESEARCHER / "card.cbor")
    with pytest.raises(CardError):
        steward.mail.card_of(OTHER)
    with pytest.raises(AddressError):
        steward.mail.card_of("../north")


def test_a_spoilt_own_card_is_put_again(world):
    steward, researcher = world.pair()
    (world.relay / STEWARD / "card.cbor").write_bytes(b"spoilt")
    steward.mail.introduce()
    assert researcher.mail.card_of(STEWARD) == steward.identity.card


# ---- hostile files ----


def _junk(lane):
    lane.mkdir(parents=True, exist_ok=True)
    (lane / "000000000001-0123456789abcdef.frame").write_bytes(b"this is not a frame at all")
    (lane / "000000000002-0123456789abcdef.frame").write_bytes(
        MAGIC + (HEAD_BYTES + 3).to_bytes(8, "big") + b"abc"
    )
    (lane / "a name with \n and ünïcode").write_bytes(b"text")
    os.mkfifo(lane / "000000000003-0123456789abcdef.frame")
    (lane / "000000000004-0123456789abcdef.frame").symlink_to("/etc/hostname")
    (lane / "000000000005-0123456789abcdef.frame").mkdir()
    with (lane / "000000000006-0123456789abcdef.frame").open("wb") as file:
        file.truncate(LARGEST_BODY * 40)  # 2.5 GiB of nothing, on no disk
    (lane / os.fsdecode(b"\xff\xfe.frame")).write_bytes(b"a name that is no text")


def test_bad_files_are_put_aside_once_and_block_nothing(world):
    steward, researcher = world.pair()
    _junk(world.lane(researcher, steward))
    researcher.mail.send(STEWARD, "a", b"good")
    assert _bodies(steward) == [b"good"]
    refused = steward.logged("quarantined")
    assert len(refused) == 8
    assert {entry.facts["code"] for entry in refused} == {"malformed", "too-large"}
    assert {entry.facts["sender"] for entry in refused} == {RESEARCHER}
    kept = list((steward.home / "quarantine" / RESEARCHER).iterdir())
    assert b"this is not a frame at all" in [path.read_bytes() for path in kept]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    researcher.mail.send(STEWARD, "a", b"next")
    assert _bodies(steward) == [b"next"]
    assert len(steward.logged("quarantined")) == 8
    verify(steward.home, steward.identity.signing.public)


def test_a_repeated_letter_is_refused_under_any_name(world):
    steward, researcher = world.pair()
    researcher.mail.send(STEWARD, "a", b"once")
    frame = world.frames(researcher, steward)[0]
    assert _bodies(steward) == [b"once"]
    frame.with_name("000000000009-0123456789abcdef.frame").write_bytes(frame.read_bytes())
    assert _bodies(steward) == []
    assert [e.facts["code"] for e in steward.logged("quarantined")] == ["replay"]


def test_a_letter_for_another_is_refused_here(world):
    steward, researcher = world.pair()
    other = world.person(OTHER)
    world.meet(steward, researcher, other)
    researcher.mail.send(OTHER, "a", b"not for the steward")
    frame = world.frames(researcher, other)[0]
    lane = world.lane(researcher, steward)
    lane.mkdir(parents=True)
    (lane / frame.name).write_bytes(frame.read_bytes())
    assert _bodies(steward) == []
    assert [e.facts["code"] for e in steward.logged("quarantined")] == ["other-recipient"]
    assert _bodies(other) == [b"not for the steward"]


def test_a_letter_laid_under_another_name_is_not_that_ones(world):
    steward, researcher = world.pair()
    other = world.person(OTHER)
    world.meet(steward, researcher, other)
    other.mail.send(STEWARD, "a", b"as the researcher")
    frame = world.frames(other, steward)[0]
    lane = world.lane(researcher, steward)
    lane.mkdir(parents=True)
    (lane / frame.name).write_bytes(frame.read_bytes())
    assert [(letter.sender, letter.body) for letter in steward.mail.receive()] == [
        (OTHER, b"as the researcher")
    ]
    assert [e.facts["code"] for e in steward.logged("quarantined")] == ["bad-signature"]


def test_a_number_far_ahead_is_refused(world):
    steward, researcher = world.pair()
    frame = seal_frame(researcher.identity, steward.identity.card, "a", 10**11, 1, b"")
    lane = world.lane(researcher, steward)
    lane.mkdir(parents=True)
    (lane / "100000000000-0123456789abcdef.frame").write_bytes(frame)
    assert _bodies(steward) == []
    assert [e.facts["code"] for e in steward.logged("quarantined")] == ["far-ahead"]


def test_what_a_flood_leaves_behind_is_bounded(world, monkeypatch):
    monkeypatch.setattr(quarantine, "MOST_KEPT", 5)
    steward, researcher = world.pair()
    lane = world.lane(researcher, steward)
    lane.mkdir(parents=True)
    for i in range(30):
        (lane / f"{i}.frame").write_bytes(b"junk %d" % i)
    researcher.mail.send(STEWARD, "a", b"good")
    assert _bodies(steward) == [b"good"]
    assert len(list((steward.home / "quarantine" / RESEARCHER).iterdir())) == 5
    assert len(steward.logged("quarantined")) == 5
    assert len(steward.logged("quarantine-full")) == 1


# ---- a share that is slow, unordered, full or gone ----


def test_what_is_touched_again_makes_no_new_line(world):
    steward, researcher = world.pair()
    lane = world.lane(researcher, steward)
    _junk(lane)
    for stamp in (1, 2, 3):
        for path in lane.iterdir():
            os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
        assert _bodies(steward) == []
    assert len(steward.logged("quarantined")) == 8


def test_three_thousand_files_of_junk_cost_little_each(world):
    steward, researcher = world.pair()
    lane = world.lane(researcher, steward)
    lane.mkdir(parents=True)
    for i in range(3000):
        (lane / f"{i:04d}.frame").write_bytes(b"junk")
    for i in range(20):
        researcher.mail.send(STEWARD, "a", b"%d" % i)
    found = []
    assert calls(lambda: found.extend(_bodies(steward))) < 3000 * 200
    assert len(found) == 20
    assert len(steward.logged("quarantined")) == quarantine.MOST_KEPT


def test_numbers_that_are_missing_are_remembered_up_to_a_bound(world, monkeypatch):
    monkeypatch.setattr(seen, "MOST_MISSING", 5)
    steward, researcher = world.pair()
    lane = world.lane(researcher, steward)
    lane.mkdir(parents=True)

    def lay(number):
        frame = seal_frame(researcher.identity, steward.identity.card, "a", number, 0, b"%d" % number)
        (lane / f"{number:012d}-0123456789abcdef.frame").write_bytes(frame)

    for number in (100, 200, 300):
        lay(number)
        assert _bodies(steward) == [b"%d" % number]
    assert seen.read_seen(steward.home, researcher.identity.card).missing == [295, 296, 297, 298, 299]
    lay(299)
    assert _bodies(steward) == [b"299"]
    lay(3)  # given up
    assert _bodies(steward) == []
    assert [e.facts["code"] for e in steward.logged("quarantined")] == ["replay"]
    lay(301)
    assert _bodies(steward) == [b"301"]


def test_one_recipients_spoilt_folder_keeps_nothing_from_the_others(world):
    steward, researcher = world.pair()
    other = world.person(OTHER)
    world.meet(steward, researcher, other)
    spoilt = world.lane(researcher, other)
    spoilt.parent.mkdir(parents=True, exist_ok=True)
    spoilt.write_text("no folder")
    for i in range(2):
        with pytest.raises(RelayError):
            researcher.mail.send(OTHER, "a", b"%d" % i)
        researcher.mail.send(STEWARD, "a", b"%d" % i)
    assert _bodies(steward) == [b"0", b"1"]
    with pytest.raises(RelayError):
        researcher.mail.flush()
    spoilt.unlink()
    researcher.mail.flush()
    assert _bodies(other) == [b"0", b"1"]


@pytest.fixture
def three(world):
    """A steward, a researcher, and another who writes to her too."""
    steward, researcher, other = (world.person(email) for email in (STEWARD, RESEARCHER, OTHER))
    world.meet(steward, researcher, other)
    other.mail.send(STEWARD, "a", b"good")
    return steward, researcher


@pytest.mark.parametrize("part", ["", "to", f"to/{STEWARD}"])
@pytest.mark.parametrize("leads", ["to itself", "elsewhere"])
def test_a_link_in_place_of_a_senders_folder_stops_nobody_and_is_not_followed(world, three, part, leads):
    steward, researcher = three
    researcher.mail.send(STEWARD, "a", b"behind a link")
    folder = world.relay / RESEARCHER / part
    folder.rename(world.folder / "moved")
    folder.symlink_to(folder if leads == "to itself" else world.folder / "moved")
    assert _bodies(steward) == [b"good"]
    if part == "":
        with pytest.raises(CardError):
            steward.mail.card_of(RESEARCHER)
    folder.unlink()
    (world.folder / "moved").rename(folder)
    assert _bodies(steward) == [b"behind a link"]


def test_a_folder_that_cannot_be_read_stops_nobody_and_is_logged_once(world, three, monkeypatch):
    steward, researcher = three
    lane, real = str(world.lane(researcher, steward)), os.scandir
    world.lane(researcher, steward).mkdir(parents=True)

    def refused(path):  # permissions stop no test that runs as root
        if str(path) == lane:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert _bodies(steward) == [b"good"]
    assert _bodies(steward) == []
    assert [e.facts["code"] for e in steward.logged("quarantined")] == ["unreadable-folder"]
    steward.peers.remove(OTHER)
    with pytest.raises(RelayError, match="permissions"):  # it may as well be the share
        steward.mail.receive()
    monkeypatch.undo()
    researcher.mail.send(STEWARD, "a", b"readable again")
    assert _bodies(steward) == [b"readable again"]


def test_half_a_file_is_waited_for(world):
    steward, researcher = world.pair()
    researcher.mail.send(STEWARD, "a", b"whole")
    frame = world.frames(researcher, steward)[0]
    data = frame.read_bytes()
    for size in (0, 5, HEAD_BYTES, len(data) - 1):
        frame.write_bytes(data[:size])
        assert _bodies(steward) == []
    frame.write_bytes(data)
    assert _bodies(steward) == [b"whole"]
    assert steward.log.entries() == []


def test_a_bad_file_that_becomes_good_is_taken(world):
    """A synchroniser may first make a file of its full size, of zeros."""
    steward, researcher = world.pair()
    researcher.mail.send(STEWARD, "a", b"whole")
    frame = world.frames(researcher, steward)[0]
    data = frame.read_bytes()
    frame.write_bytes(bytes(len(data)))
    assert _bodies(steward) == []
    frame.write_bytes(data)
    os.utime(frame, ns=(1, 1))
    assert _bodies(steward) == [b"whole"]


def test_missing_letters_are_logged_and_taken_when_they_come(world):
    steward, researcher = world.pair()
    for i in range(1, 5):
        researcher.mail.send(STEWARD, "a", b"%d" % i)
    first, second, *_ = world.frames(researcher, steward)
    late = {path: path.read_bytes() for path in (first, second)}
    for path in late:
        path.unlink()
    assert _bodies(steward) == [b"3", b"4"]
    assert [e.facts["numbers"] for e in steward.logged("letters-missing")] == [[1, 2]]
    for path, data in reversed(late.items()):
        path.write_bytes(data)
    assert _bodies(steward) == [b"1", b"2"]
    assert len(steward.logged("letters-missing")) == 1


def test_a_wrong_clock_is_noted_and_loses_nothing(world):
    steward, researcher = world.pair()
    researcher.clock.now += 3 * 24 * 3600
    researcher.mail.send(STEWARD, "a", b"from the future")
    researcher.clock.now = 0
    researcher.mail.send(STEWARD, "a", b"from 1970")
    assert _bodies(steward) == [b"from the future", b"from 1970"]
    assert [e.facts["number"] for e in steward.logged("clock-skew")] == [1, 2]
    researcher.clock.now = steward.clock.now + 23 * 3600
    researcher.mail.send(STEWARD, "a", b"a little")
    assert _bodies(steward) == [b"a little"]
    assert len(steward.logged("clock-skew")) == 2


def test_a_vanished_share_loses_nothing(world):
    steward, researcher = world.pair()
    away = world.relay.with_name("away")
    world.relay.rename(away)
    with pytest.raises(RelayError, match="is not there"):
        researcher.mail.send(STEWARD, "a", b"1")
    with pytest.raises(RelayError, match="is not there"):
        steward.mail.receive()
    away.rename(world.relay)
    researcher.mail.send(STEWARD, "a", b"2")
    assert _bodies(steward) == [b"1", b"2"]


def test_an_empty_folder_in_the_shares_place_is_not_taken_for_it(world):
    steward, researcher = world.pair()
    away = world.relay.with_name("away")
    world.relay.rename(away)
    world.relay.mkdir()
    with pytest.raises(RelayError, match="is empty, and was not before"):
        researcher.mail.introduce()
    with pytest.raises(RelayError, match="no longer in"):
        researcher.mail.send(STEWARD, "a", b"1")
    assert list(world.relay.iterdir()) == []
    world.relay.rmdir()
    away.rename(world.relay)
    assert steward.mail.receive() == []
    researcher.mail.flush()
    assert _bodies(steward) == [b"1"]
    researcher.mail.introduce(anew=True)


def test_a_full_share_is_told_and_loses_nothing(tiny_relay):
    steward, researcher = tiny_relay.pair()
    ballast = tiny_relay.relay / "ballast"
    ballast.write_bytes(bytes(40_000))
    with pytest.raises(RelayError, match="is full"):
        researcher.mail.send(STEWARD, "a", bytes(30_000))
    assert list(tiny_relay.lane(researcher, steward).glob("*.frame")) == []
    assert _bodies(steward) == []  # who reads goes on
    ballast.unlink()
    assert _bodies(researcher) == []  # a look is enough to send what waited
    assert _bodies(steward) == [bytes(30_000)]
    assert researcher.mail.send(STEWARD, "a", b"next") == 2
    assert _bodies(steward) == [b"next"]


def test_a_link_in_place_of_ones_own_folder_is_not_followed(world):
    steward, _ = world.pair()
    elsewhere = world.folder / "elsewhere"
    elsewhere.mkdir()
    (world.relay / STEWARD / "to").symlink_to(elsewhere)
    with pytest.raises(RelayError, match="remove it"):
        steward.mail.send(RESEARCHER, "a", b"1")
    assert list(elsewhere.iterdir()) == []


def test_too_long_a_letter_is_refused_before_it_counts(world, monkeypatch):
    steward, researcher = world.pair()
    with pytest.raises(FrameTooLargeError):
        steward.mail.send(RESEARCHER, "a", bytes(LARGEST_BODY + 1))
    assert steward.mail.send(RESEARCHER, "a", b"short") == 1
    assert _bodies(researcher) == [b"short"]


def test_a_crash_between_outbox_and_count_sends_one_letter(world, monkeypatch):
    steward, researcher = world.pair()

    def crash(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(outbox, "write_sent", crash)
    with pytest.raises(KeyboardInterrupt):
        steward.mail.send(RESEARCHER, "a", b"interrupted")
    monkeypatch.undo()
    assert steward.mail.send(RESEARCHER, "a", b"sent") == 1
    assert _bodies(researcher) == [b"sent"]
    assert researcher.log.entries() == []


def test_a_crash_between_inbox_and_mark_gives_one_letter(world, monkeypatch):
    steward, researcher = world.pair()
    steward.mail.send(RESEARCHER, "a", b"1")

    def crash(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(mail_module, "write_seen", crash)
    with pytest.raises(KeyboardInterrupt):
        researcher.mail.receive()
    monkeypatch.undo()
    assert _bodies(researcher) == [b"1"]
    assert _bodies(researcher) == []


def test_heads_of_logs_travel_and_tell_on_a_log_that_was_cut(world):
    steward, researcher = world.pair()
    steward.log.append(STEWARD, "approved", None, "IRB 1")
    steward.mail.send(RESEARCHER, "a", b"")
    steward.log.append(STEWARD, "denied", None, "")
    steward.mail.send(RESEARCHER, "a", b"")
    researcher.mail.receive()
    kept = researcher.mail.witnessed(STEWARD)
    assert kept == steward.log.head()
    assert len(verify(steward.home, steward.identity.signing.public, [kept]).entries) == 2


def _counted(monkeypatch, module, name):
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: calls.append(a) or real(*a, **k))
    return calls


def test_an_idle_look_reads_and_writes_no_file(world, monkeypatch):
    """A steward's service looks every second, for months."""
    steward, researcher = world.pair()
    for i in range(20):
        steward.mail.send(RESEARCHER, "a", b"%d" % i)
    (world.lane(steward, researcher) / "junk.frame").write_bytes(b"junk")
    assert len(researcher.mail.receive()) == 20
    assert researcher.mail.receive() == []
    lines = len(researcher.log.entries())

    opened = _counted(monkeypatch, relay, "read_plain")
    marks = _counted(monkeypatch, mail_module, "read_seen")
    pins = _counted(monkeypatch, peers_module.Pinned, "from_bytes")
    synced = _counted(monkeypatch, os, "fsync")
    for _ in range(3):
        assert researcher.mail.receive() == []
    assert (opened, marks, pins, synced) == ([], [], [], [])
    assert len(researcher.log.entries()) == lines

    steward.mail.send(RESEARCHER, "a", b"news")
    assert _bodies(researcher) == [b"news"]
    assert [] not in (opened, marks, synced)  # the control


def test_what_another_session_took_is_not_taken_again_by_an_idle_one(world):
    steward, researcher = world.pair()
    steward.mail.send(RESEARCHER, "a", b"1")
    assert _bodies(researcher) == [b"1"]
    assert _bodies(researcher) == []
    steward.mail.send(RESEARCHER, "a", b"2")
    assert _bodies(world.person(RESEARCHER)) == [b"2"]
    assert _bodies(researcher) == []
    researcher.peers.remove(STEWARD)
    steward.mail.send(RESEARCHER, "a", b"3")
    assert _bodies(researcher) == []
    assert researcher.log.entries() == []
