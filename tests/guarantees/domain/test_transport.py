"""The shared folder is hostile: what is done to it reaches nobody, is written down, and keeps no honest letter away.

Everybody here can write everything that lies in the folder, as on a share without rights of its own. Every test ends
with an honest letter that arrives. The controls are in ``test_stock_syft.py``.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocols.envelope import SealingKey
from protocols.signing import SigningKey
from securefl.domain.cards import Card, sign_card
from securefl.domain.errors import CardError, ChangedKeyError, RelayError, RevokedError, UnknownPeerError
from securefl.domain.frames import seal_frame
from securefl.domain.identity import Identity
from securefl.domain.log import AuditLog
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers
from securefl.domain.relay import Relay
from tests.guarantees.domain.conftest import MALLORY, OWNER, RESEARCHER

SOUTH = "steward@south.example"


@dataclass
class Person:
    """One person's mail."""

    mail: Mail
    relay: Path

    @classmethod
    def at(cls, folder: Path, email: str) -> Person:
        home = folder / email
        identity = Identity.open(home, email)
        log = AuditLog(home, identity, lambda: 1_800_000_000)
        relay = folder / "relay"
        relay.mkdir(exist_ok=True)
        person = cls(Mail(identity, Peers(home), Relay(relay), log), relay)
        person.mail.introduce()
        return person

    @property
    def identity(self) -> Identity:
        return self.mail.identity

    def knows(self, *others: Person) -> None:
        for other in others:
            self.mail.peers.pin(other.identity.card)

    def takes(self) -> list[bytes]:
        return [letter.body for letter in self.mail.receive()]

    def logged(self, action: str = "quarantined") -> list[str]:
        """The codes of what was refused."""
        return [str(e.facts.get("code", "")) for e in self.mail.log.entries() if e.action == action]

    def wrote(self, recipient: Person) -> list[Path]:
        return sorted((self.relay / self.identity.email / "to" / recipient.identity.email).iterdir())


@pytest.fixture
def people(tmp_path):
    """The owner and another steward know the researcher; nobody knows Mallory, who can write the whole folder."""
    owner, south, researcher, mallory = (
        Person.at(tmp_path, email) for email in (OWNER, SOUTH, RESEARCHER, MALLORY)
    )
    owner.knows(researcher, south)
    south.knows(researcher, owner)
    researcher.knows(owner, south)
    mallory.knows(owner)
    return owner, south, researcher, mallory


def still_works(owner: Person, researcher: Person) -> None:
    """The session goes on: an honest letter after the attack is delivered, once."""
    researcher.mail.send(OWNER, "proposal", b"honest")
    assert owner.takes() == [b"honest"]
    assert owner.takes() == []


def forged(sender: Person, recipient: Person, body: bytes, number: int = 1) -> bytes:
    """A letter, made with the sender's own keys."""
    return seal_frame(sender.identity, recipient.identity.card, "proposal", number, 1_800_000_000, body)


def lay(
    relay: Path, sender: str, recipient: str, data: bytes, name: str = "000000000001-" + "0" * 16
) -> Path:
    path = relay / sender / "to" / recipient / f"{name}.frame"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_control_an_honest_letter_arrives(people):
    owner, _, researcher, _ = people
    still_works(owner, researcher)
    assert owner.logged() == []


def test_a_letter_laid_under_another_name_is_not_that_persons(people):
    """Mallory writes into the researcher's folder: with her own name inside, and with the researcher's."""
    owner, _, researcher, mallory = people
    lay(owner.relay, RESEARCHER, OWNER, forged(mallory, owner, b"approve me"))
    liar = Identity(
        mallory.identity.home, researcher.identity.card, mallory.identity.signing, mallory.identity.sealing
    )
    lie = seal_frame(liar, owner.identity.card, "proposal", 2, 0, b"approve me")
    lay(owner.relay, RESEARCHER, OWNER, lie, "000000000002-" + "0" * 16)

    assert owner.takes() == []
    assert owner.logged() == ["bad-signature", "bad-signature"]
    still_works(owner, researcher)


def test_a_letter_of_the_owner_to_herself_is_nothing(people):
    """The attack that approves a job in stock Syft: a message in the owner's own name."""
    owner, _, researcher, mallory = people
    for name in (OWNER, MALLORY):
        lay(owner.relay, name, OWNER, forged(mallory, owner, b"approve me"))
    assert owner.takes() == []
    still_works(owner, researcher)


def test_a_stranger_who_writes_the_folder_stays_a_stranger(people):
    """Cards, folders and whatever Syft keeps in its storage add nobody; pinning is a call of the owner's."""
    owner, _, researcher, mallory = people
    lay(owner.relay, MALLORY, OWNER, forged(mallory, owner, b"let me in"))
    for name in ("SYFT_peers.json", f"{OWNER}/SYFT_peers.json", f"{OWNER}/peers/{MALLORY}.cbor"):
        path = owner.relay / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({MALLORY: {"state": "accepted"}}))

    assert owner.takes() == []
    assert [card.email for card in owner.mail.peers.all()] == [RESEARCHER, SOUTH]
    with pytest.raises(UnknownPeerError):
        owner.mail.send(MALLORY, "decision", b"")
    still_works(owner, researcher)


def test_a_letter_that_is_repeated_is_taken_once(people):
    """The same bytes under the same name, under a new number, and under a later one, also after a restart."""
    owner, _, researcher, _ = people
    researcher.mail.send(OWNER, "proposal", b"first")
    (first,) = researcher.wrote(owner)
    data = first.read_bytes()
    assert owner.takes() == [b"first"]

    first.unlink()
    lay(owner.relay, RESEARCHER, OWNER, data, first.stem)
    for number in (2, 3, 999):
        lay(owner.relay, RESEARCHER, OWNER, data, f"{number:012d}-" + "a" * 16)
    assert owner.takes() == []
    again = Person.at(owner.relay.parent, OWNER)
    assert again.takes() == []
    assert owner.logged() == ["replay"] * 3
    still_works(owner, researcher)


def test_a_letter_for_somebody_else_does_not_open(people):
    """A copy of the letter to one steward, laid before the other."""
    owner, south, researcher, _ = people
    researcher.mail.send(SOUTH, "proposal", b"for the south")
    lay(owner.relay, RESEARCHER, OWNER, researcher.wrote(south)[0].read_bytes())

    assert owner.takes() == []
    assert owner.logged() == ["other-recipient"]
    assert south.takes() == [b"for the south"]
    still_works(owner, researcher)


def test_letters_that_are_renamed_keep_their_numbers(people):
    """The number stands under the signature, so that the order by number stays the sender's, whatever the names say."""
    owner, _, researcher, _ = people
    for body in (b"one", b"two", b"three"):
        researcher.mail.send(OWNER, "proposal", body)
    one, _, three = researcher.wrote(owner)
    data = one.read_bytes(), three.read_bytes()
    one.write_bytes(data[1])
    three.write_bytes(data[0])

    letters = owner.mail.receive()
    assert {letter.number: letter.body for letter in letters} == {1: b"one", 2: b"two", 3: b"three"}
    still_works(owner, researcher)


def test_a_letter_with_any_one_bit_changed_is_refused(people):
    """Head, names, number, seal and signature: 200 places spread over the frame."""
    owner, _, researcher, _ = people
    frame = forged(researcher, owner, b"honest")
    for place in range(0, 8 * len(frame), 8 * len(frame) // 200):
        changed = bytearray(frame)
        changed[place // 8] ^= 1 << place % 8
        lay(owner.relay, RESEARCHER, OWNER, bytes(changed), f"{place + 1:012d}-" + "0" * 16)
    assert owner.takes() == []

    lay(owner.relay, RESEARCHER, OWNER, frame, "999999999999-" + "0" * 16)
    assert owner.takes() == [b"honest"]


def test_a_letter_that_is_cut_off_waits_and_a_longer_one_is_refused(people):
    """A synchronised folder shows the beginning of a file first; nothing is lost by looking too early."""
    owner, _, researcher, _ = people
    researcher.mail.send(OWNER, "proposal", b"slow")
    (path,) = researcher.wrote(owner)
    whole = path.read_bytes()
    for size in (0, 7, 8, 15, 16, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert owner.takes() == []
    assert owner.logged() == []

    path.write_bytes(whole + b"\0")
    assert owner.takes() == []
    path.write_bytes(whole)
    assert owner.takes() == [b"slow"]
    still_works(owner, researcher)


def test_one_gigabyte_is_refused_by_its_size_and_is_not_read(people):
    """A sparse file, with and without a frame's beginning; a process that may have 300 MB more bears it."""
    owner, _, researcher, _ = people
    for number, head in (
        (1, b""),
        (2, b"sflmail1" + (2**30).to_bytes(8, "big")),
        (3, b"sflmail1" + b"\xff" * 8),
    ):
        path = lay(owner.relay, RESEARCHER, OWNER, head, f"{number:012d}-" + "0" * 16)
        os.truncate(path, 2**30)

    before = peak()
    assert owner.takes() == []
    assert peak() - before < 300 * 2**20
    assert owner.logged() == ["too-large"] * len(owner.logged()) != []
    assert sum(path.stat().st_size for path in (owner.identity.home / "quarantine").rglob("*.bin")) < 2**22
    still_works(owner, researcher)


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_links_pipes_and_folders_are_not_followed_or_waited_for(people, tmp_path):
    """A link to the owner's private file would hand it to nobody here, but would show it in the quarantine."""
    owner, _, researcher, _ = people
    secret = owner.identity.home / "identity" / "signing.key"
    folder = owner.relay / RESEARCHER / "to" / OWNER
    folder.mkdir(parents=True)
    (folder / ("000000000001-" + "0" * 16 + ".frame")).symlink_to(secret)
    os.mkfifo(folder / ("000000000002-" + "0" * 16 + ".frame"))
    (folder / ("000000000003-" + "0" * 16 + ".frame")).mkdir()
    (folder / ("000000000004-" + "0" * 16 + ".frame")).symlink_to("/dev/zero")

    assert owner.takes() == []
    assert secret.exists()
    assert not [
        p
        for p in (owner.identity.home / "quarantine").rglob("*.bin")
        if p.read_bytes() == secret.read_bytes()
    ]
    still_works(owner, researcher)


def test_a_folder_that_is_a_link_into_the_owners_home_takes_nothing_away(people):
    """What lies there is looked at as if it were letters; it is refused, and stays where it is."""
    owner, _, researcher, _ = people
    (owner.relay / RESEARCHER / "to").mkdir(parents=True, exist_ok=True)
    home = owner.identity.home / "identity"
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    (owner.relay / RESEARCHER / "to" / OWNER).symlink_to(home)
    assert owner.takes() == []
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before

    (owner.relay / RESEARCHER / "to" / OWNER).unlink()
    still_works(owner, researcher)


def test_no_name_leads_out_of_the_folder(people, tmp_path):
    """Neither a person's nor a file's."""
    owner, _, researcher, mallory = people
    for name in (
        "../../evil@x.example",
        "a/../../b@x.example",
        "/etc@x.example",
        "..@x.example",
        "a@x.example\n",
        "A@x.example",
    ):
        card = Card(
            email=name, signing=mallory.identity.signing.public, sealing=mallory.identity.sealing.public
        )
        with pytest.raises(Exception, match="email"):
            owner.mail.peers.pin(card)
    with pytest.raises(Exception, match="email"):
        owner.mail.send("../../evil@x.example", "proposal", b"")
    folder = owner.relay / RESEARCHER / "to" / OWNER
    folder.mkdir(parents=True)
    for name in ("..\\evil.frame", "000000000001-x;rm -rf.frame", "\x1b[2J.frame", "a" * 240, "\udcff.frame"):
        (folder / name).write_bytes(b"evil")

    assert owner.takes() == []
    log = (owner.identity.home / "log.jsonl").read_bytes()
    assert b"\x1b" not in log
    assert b"\\u001b" not in log
    still_works(owner, researcher)


def test_junk_files_do_not_fill_the_owners_disk_or_log(people):
    """The same junk three hundred times, touched anew between two looks."""
    owner, _, researcher, _ = people
    for number in range(300):
        lay(owner.relay, RESEARCHER, OWNER, b"junk that is no frame", f"{number + 1:012d}-" + "0" * 16)
    owner.takes()
    for path in (owner.relay / RESEARCHER / "to" / OWNER).iterdir():
        os.utime(path, (5, 5))
    owner.takes()

    assert len(list((owner.identity.home / "quarantine").rglob("*.bin"))) <= 200
    assert len(owner.mail.log.entries()) <= 210
    still_works(owner, researcher)


def test_a_card_that_is_swapped_is_an_error_and_is_used_for_nothing(people):
    """Mallory lays a card with the researcher's name and her own keys where the researcher's was."""
    owner, _, researcher, mallory = people
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    card = Card(email=RESEARCHER, signing=signing.public, sealing=sealing.public)
    (owner.relay / RESEARCHER / "card.cbor").write_bytes(sign_card(card, signing))
    impostor = Identity(mallory.identity.home, card, signing, sealing)
    lay(
        owner.relay,
        RESEARCHER,
        OWNER,
        seal_frame(impostor, owner.identity.card, "proposal", 1, 0, b"from me"),
    )

    with pytest.raises(ChangedKeyError, match="has changed"):
        owner.mail.card_of(RESEARCHER)
    with pytest.raises(ChangedKeyError):
        owner.mail.peers.pin(card)
    with pytest.raises(ChangedKeyError, match="Somebody else is"):
        Person.at(owner.relay.parent, RESEARCHER)
    assert owner.takes() == []
    assert owner.logged() == ["bad-signature"]
    number = owner.mail.send(RESEARCHER, "decision", b"no")
    assert researcher.takes() == [b"no"], number
    still_works(owner, researcher)


def test_a_card_whose_key_did_not_sign_it_is_none(people):
    owner, _, _, mallory = people
    card = Card(email=MALLORY, signing=owner.identity.signing.public, sealing=mallory.identity.sealing.public)
    (owner.relay / MALLORY / "card.cbor").write_bytes(sign_card(card, mallory.identity.signing))
    with pytest.raises(CardError):
        owner.mail.card_of(MALLORY)


def test_a_removed_persons_keys_are_worth_nothing(people):
    """Letters from before that wait, new ones, and the same card again; a new signing key is another person's word."""
    owner, south, researcher, _ = people
    researcher.mail.send(OWNER, "proposal", b"from before")
    owner.mail.fetch()
    owner.mail.peers.remove(RESEARCHER)
    researcher.mail.send(OWNER, "proposal", b"from after")

    assert owner.takes() == []
    assert "removed-sender" in owner.logged()
    with pytest.raises(RevokedError):
        owner.mail.peers.pin(researcher.identity.card)
    half_new = Card(
        email=RESEARCHER,
        signing=researcher.identity.signing.public,
        sealing=SealingKey.generate().public,
    )
    with pytest.raises(RevokedError):
        owner.mail.peers.pin(half_new)
    with pytest.raises(UnknownPeerError):
        owner.mail.send(RESEARCHER, "decision", b"")
    still_works(owner, south)


def test_nothing_readable_lies_in_the_folder(people):
    """Not the body, not the topic; only who writes to whom, when and how much."""
    owner, _, researcher, _ = people
    researcher.mail.send(OWNER, "topic-of-ours", b"canary in the body")
    found = b"".join(path.read_bytes() for path in owner.relay.rglob("*") if path.is_file())
    assert b"canary in the body" not in found
    assert b"topic-of-ours" not in found
    assert owner.takes() == [b"canary in the body"]


def test_keys_and_letters_at_home_are_for_their_owner_only(people):
    owner, _, researcher, _ = people
    still_works(owner, researcher)
    home = owner.identity.home
    assert [path for path in (home, *home.rglob("*")) if path.stat().st_mode & 0o077] == []


def test_a_letter_that_vanished_is_missed_and_named(people):
    """The share can withhold; the owner's log says what it withheld."""
    owner, _, researcher, _ = people
    for body in (b"one", b"two", b"three"):
        researcher.mail.send(OWNER, "proposal", body)
    one, two, _ = researcher.wrote(owner)
    one.unlink()
    two.unlink()
    assert owner.takes() == [b"three"]
    missing = [entry.facts for entry in owner.mail.log.entries() if entry.action == "letters-missing"]
    assert [facts["numbers"] for facts in missing] == [[1, 2]]
    still_works(owner, researcher)


def test_one_recipients_broken_folder_keeps_no_letter_from_the_others(people):
    """Somebody puts a file where the folder of the first recipient stood."""
    owner, south, researcher, _ = people
    shutil.rmtree(owner.relay / OWNER / "to", ignore_errors=True)
    (owner.relay / OWNER / "to").mkdir()
    (owner.relay / OWNER / "to" / RESEARCHER).write_text("no folder")
    with pytest.raises(RelayError):
        owner.mail.send(RESEARCHER, "decision", b"for the researcher")
    with suppress(RelayError):  # it may say that another letter waits
        owner.mail.send(SOUTH, "decision", b"for the south")
    assert south.takes() == [b"for the south"]

    (owner.relay / OWNER / "to" / RESEARCHER).unlink()
    owner.mail.flush()
    assert researcher.takes() == [b"for the researcher"]
