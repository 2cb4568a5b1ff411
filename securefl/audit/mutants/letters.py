"""Mutants whose letters say themselves who wrote them, can be read or repeated by the share, or stop all later ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from protocols.canonical import digest
from protocols.envelope import seal
from protocols.errors import ProtocolError
from securefl.audit.canaries import search
from securefl.audit.mutants.bindings import _NOWHERE
from securefl.audit.mutants.share import NOW, RESEARCHER, SOUTH, Share, shared
from securefl.audit.registry import Finding, Mutant
from securefl.domain.cards import Card
from securefl.domain.frames import open_frame, seal_frame
from securefl.domain.identity import Identity
from securefl.errors import SecureFLError

APPROVAL = b"approved by the steward of the south"

# -- the sender is what the message says -----------------------------------------------------------------------------


def by_its_word(recipient: Identity, files: Iterable[bytes]) -> list[tuple[str, bytes]]:
    """The naive mail, as Syft's: who may write here may write encrypted, and the message says who sent it."""
    said = [json.loads(recipient.sealing.open(data, _NOWHERE)) for data in files]
    return [(message["sender"], bytes.fromhex(message["body"])) for message in said]


def _word_breaks() -> Finding:
    with shared() as share:
        lie = json.dumps({"sender": SOUTH, "body": APPROVAL.hex()}).encode()
        share.lay(RESEARCHER, 1, seal(share.steward.identity.card.sealing, lie, _NOWHERE))
        taken = by_its_word(share.steward.identity, share.laid(RESEARCHER))
    forged = sum(sender == SOUTH for sender, _ in taken)
    said = f"An accepted researcher's message was taken for {SOUTH}'s, encrypted as it was: {forged} of 1."
    return Finding(forged == 1, said, {"forged": forged})


def _lies(share: Share) -> list[tuple[str, bytes]]:
    """Letters in the name of the south, made with the keys of the researcher and of a stranger, and where they lie."""
    found, south = [], share.south.identity.card
    for liar in (share.researcher.identity, share.mallory.identity):
        for card in (liar.card, south, replace_keys(south, liar.card)):
            author = replace(liar, card=card)
            letter = seal_frame(author, share.steward.identity.card, "decision", 1, NOW, APPROVAL)
            found += [(place, letter) for place in (SOUTH, liar.email)]
    return found


def replace_keys(card: Card, other: Card) -> Card:
    """A card with one's name and another's keys."""
    return Card(email=card.email, signing=other.signing, sealing=other.sealing)


def _word_caught() -> Finding:
    with shared() as share:
        lies = _lies(share)
        for number, (place, letter) in enumerate(lies, start=1):
            share.lay(place, number, letter)
        taken = share.steward.takes()
        forged = sum(letter.sender == SOUTH for letter in taken)
        share.south.mail.send(share.steward.email, "decision", b"honest")
        honest = [letter.body for letter in share.steward.takes() if letter.sender == SOUTH]
    said = (
        f"{forged} of {len(lies)} letters in {SOUTH}'s name or place, signed by others, were taken; her own was "
        f"{'taken' if honest == [b'honest'] else 'not taken'}."
    )
    return Finding(not forged and honest == [b"honest"], said, {"forged": forged, "tries": len(lies)})


# -- taken again -----------------------------------------------------------------------------------------------------

COPIES = 5


def by_file_name(share: Share, done: set[str]) -> int:
    """The naive mail: signatures are checked, and files that were looked at are known by their names."""
    folder, count = share.relay / RESEARCHER / "to" / share.steward.email, 0
    for path in sorted(folder.iterdir()):
        if path.name not in done:
            open_frame(share.steward.identity, share.researcher.identity.card, path.read_bytes())
            done.add(path.name)
            count += 1
    return count


def _copied(share: Share) -> None:
    (letter,) = share.laid(RESEARCHER)[:1]
    for number in range(2, COPIES + 2):
        share.lay(RESEARCHER, number, letter)


def _again_breaks() -> Finding:
    done: set[str] = set()
    with shared() as share:
        share.researcher.mail.send(share.steward.email, "launch", b"once")
        taken = by_file_name(share, done)
        _copied(share)
        taken += by_file_name(share, done)
    said = f"One letter that the share's keeper copied {COPIES} times was taken {taken} times."
    return Finding(taken == COPIES + 1, said, {"taken": taken})


def _again_caught() -> Finding:
    with shared() as share:
        share.researcher.mail.send(share.steward.email, "launch", b"once")
        taken = len(share.steward.takes())
        _copied(share)
        taken += len(share.steward.takes())
        after = type(share.steward).at(share.folder, share.steward.email)  # a restart
        taken += len(after.takes())
        share.researcher.mail.send(share.steward.email, "launch", b"twice")
        honest = [letter.body for letter in after.takes()]
    said = f"Copied {COPIES} times, it was taken {taken} times, a restart included; the next one was taken."
    return Finding(taken == 1 and honest == [b"twice"], said, {"taken": taken})


# -- in the open -----------------------------------------------------------------------------------------------------

TOPIC, BODY = "topic-of-a-proposal", b"the purpose that nobody else should read"


def signed_in_the_open(author: Identity, topic: str, body: bytes) -> bytes:
    """The naive letter: signed, so that nobody can change it."""
    content = {"topic": topic, "body": body.hex()}
    signature = author.signing.sign("open-letter", digest("open-letter", content))
    return json.dumps({**content, "signature": signature.hex()}).encode()


def _read(share: Share) -> int:
    """How many of the two, topic and body, stand in the share in any form."""
    found = search(share.relay, {"the topic": TOPIC.encode(), "the body": BODY}).found
    return len({one.secret for one in found})


def _open_breaks() -> Finding:
    with shared() as share:
        share.lay(RESEARCHER, 1, signed_in_the_open(share.researcher.identity, TOPIC, BODY))
        found = _read(share)
    said = f"Whoever reads the share reads topic and body: {found} of 2 found."
    return Finding(found == 2, said, {"found": found})


def _open_caught() -> Finding:
    with shared() as share:
        share.researcher.mail.send(share.steward.email, TOPIC, BODY)
        found = _read(share)
        (letter,) = share.steward.takes()
    read = (letter.topic, letter.body) == (TOPIC, BODY)
    said = f"{found} of 2 were found in any form in the share; its recipient read {'both' if read else 'neither'}."
    return Finding(not found and read, said, {"found": found})


# -- one bad letter --------------------------------------------------------------------------------------------------


def all_or_nothing(share: Share) -> list[bytes]:
    """The naive mail, as Syft's: it reads what lies there in order, and an error ends the look."""
    author = share.researcher.identity.card
    return [open_frame(share.steward.identity, author, data).body for data in share.laid(RESEARCHER)]


def _junk(share: Share) -> list[bytes]:
    honest = seal_frame(share.researcher.identity, share.steward.identity.card, "x", 1, NOW, b"x")
    return [
        b"no letter",
        honest[:-1] + bytes([honest[-1] ^ 1]),  # a wrong signature
        honest + b"\0",
        b"sflmail1" + b"\xff" * 8,  # of 2^64 bytes
        b"sflmail1" + (1000).to_bytes(8, "big") + bytes(984),
        seal_frame(share.mallory.identity, share.steward.identity.card, "x", 1, NOW, b"x"),
        seal_frame(share.researcher.identity, share.south.identity.card, "x", 1, NOW, b"x"),
    ]


LOOKS = 3


def _spoilt(share: Share) -> int:
    """Lay the bad ones first, then let the researcher write."""
    junk = _junk(share)
    for number, data in enumerate(junk):
        share.lay(RESEARCHER, number, data)
    (share.relay / RESEARCHER / "to" / share.steward.email / "000000000009-x.frame").symlink_to(
        share.relay / "nothing"
    )
    for _ in range(LOOKS):
        share.researcher.mail.send(share.steward.email, "proposal", b"honest")
    return len(junk) + 1


def _came(look: Callable[[], list[bytes]]) -> list[bytes]:
    """What came in some looks; an error ends a look."""
    came = []
    for _ in range(LOOKS):
        with suppress(ProtocolError, SecureFLError, OSError):
            came += look()
    return came


def _stop_breaks() -> Finding:
    with shared() as share:
        bad = _spoilt(share)
        came = len(_came(lambda: all_or_nothing(share)))
    said = f"After {bad} bad files {came} of {LOOKS} honest letters came, in {LOOKS} looks."
    return Finding(came == 0, said, {"came": came, "bad": bad})


def _stop_caught() -> Finding:
    with shared() as share:
        bad = _spoilt(share)
        with suppress(ProtocolError, SecureFLError, OSError):
            share.steward.mail.fetch()
        came = _came(lambda: [letter.body for letter in share.steward.takes()])
        logged = [entry.action for entry in share.steward.mail.log.entries()].count("quarantined")
    said = f"{len(came)} of {LOOKS} honest letters came, once each; {logged} of {bad} bad files stand in the log."
    right = came == [b"honest"] * LOOKS and logged == bad
    return Finding(right, said, {"came": len(came), "quarantined": logged})


MUTANTS = (
    Mutant(
        "sender-by-envelope-text",
        "sender-is-who-signed",
        "A message is from whom its text names, as long as an accepted peer could send it.",
        _word_breaks,
        _word_caught,
    ),
    Mutant(
        "letters-taken-again",
        "sender-is-who-signed",
        "A letter that was taken is known again by the name of its file.",
        _again_breaks,
        _again_caught,
    ),
    Mutant(
        "letters-in-the-open",
        "share-reads-nothing",
        "Letters are signed, so that nobody can change them, and lie on the share as they are.",
        _open_breaks,
        _open_caught,
    ),
    Mutant(
        "first-bad-letter-ends-the-look",
        "bad-letters-stop-nobody",
        "Letters are read in order, and what cannot be read is an error.",
        _stop_breaks,
        _stop_caught,
    ),
)
