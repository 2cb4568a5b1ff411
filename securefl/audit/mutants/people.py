"""Mutants that let people in by what lies in the shared folder, or whose removed people live on."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path

from protocols.envelope import SealingKey
from protocols.signing import SigningKey
from securefl.audit.mutants.letters import replace_keys
from securefl.audit.mutants.share import MALLORY, NOW, RESEARCHER, STEWARD, Share, shared
from securefl.audit.registry import Finding, Mutant
from securefl.domain.cards import Card, read_card, sign_card
from securefl.domain.errors import DomainError
from securefl.domain.frames import Letter, open_frame, seal_frame
from securefl.domain.identity import Identity
from securefl.domain.mail import Mail
from securefl.domain.session import Session

# -- the share's list of peers ---------------------------------------------------------------------------------------

LIST = "peers.json"


def listed(share: Share) -> list[bytes]:
    """The naive mail, as Syft's: who takes part stands in a file of the share, beside everybody's cards."""
    bodies = []
    for email in json.loads((share.relay / STEWARD / LIST).read_text()):
        card = read_card((share.relay / email / "card.cbor").read_bytes())
        bodies += [open_frame(share.steward.identity, card, data).body for data in share.laid(email)]
    return bodies


def _writes_herself_in(share: Share) -> None:
    """Mallory writes her name wherever a program might look for it, and a letter."""
    for place in (LIST, "SYFT_peers.json", f"peers/{MALLORY}.cbor"):
        path = share.relay / STEWARD / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([MALLORY]))
    share.mallory.mail.send(STEWARD, "proposal", b"run this")


def _adds_breaks() -> Finding:
    with shared() as share:
        _writes_herself_in(share)
        taken = listed(share)
    said = (
        f"A stranger who can write the folder added herself, and {len(taken)} of 1 of her letters was taken."
    )
    return Finding(taken == [b"run this"], said, {"taken": len(taken)})


def _adds_caught() -> Finding:
    with shared() as share:
        before = [card.email for card in share.steward.mail.peers.all()]
        _writes_herself_in(share)
        taken = [letter for letter in share.steward.takes() if letter.sender == MALLORY]
        after = [card.email for card in share.steward.mail.peers.all()]
        share.steward.mail.peers.pin(share.mallory.identity.card)  # the one way in
        let_in = [letter.body for letter in share.steward.takes()]
    added = len(set(after) - set(before))
    said = f"{added} peers were added and {len(taken)} letters taken; once pinned by hand, hers is taken."
    return Finding(
        not added and not taken and let_in == [b"run this"], said, {"added": added, "taken": len(taken)}
    )


# -- the first card is believed --------------------------------------------------------------------------------------


def first_seen(relay: Path, email: str) -> Card:
    """The naive acquaintance: the card that lies there at the first look is the person's."""
    return read_card((relay / email / "card.cbor").read_bytes())


def _impostor(home: Path, email: str) -> Identity:
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    return Identity(home, Card(email=email, signing=signing.public, sealing=sealing.public), signing, sealing)


def _lay_card(share: Share, author: Identity) -> None:
    (share.relay / author.email / "card.cbor").write_bytes(sign_card(author.card, author.signing))


def _first_breaks() -> Finding:
    with shared() as share:
        impostor = _impostor(share.folder, RESEARCHER)
        _lay_card(share, impostor)
        card = first_seen(share.relay, RESEARCHER)
        lie = seal_frame(impostor, share.steward.identity.card, "proposal", 1, NOW, b"run this")
        letter = open_frame(share.steward.identity, card, lie)
    said = f"A card laid in the researcher's place was believed: a letter of {letter.sender} by another's key was read."
    return Finding(card == impostor.card and letter.body == b"run this", said, {"believed": 1})


def _first_caught() -> Finding:
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name, shared() as share:
        impostor = _impostor(share.folder, RESEARCHER)
        true = (share.relay / RESEARCHER / "card.cbor").read_bytes()
        told = share.researcher.identity.fingerprint
        new, believed = Session("new@east.example", Path(name), share.relay), 0
        _lay_card(share, impostor)
        believed += _taken(new, told)  # at the first look
        (share.relay / RESEARCHER / "card.cbor").write_bytes(true)
        true_taken = _taken(new, told)
        _lay_card(share, impostor)
        believed += _taken(new, impostor.card.fingerprint)  # later, and even if it is read out
        pinned = [card == share.researcher.identity.card for card in new.peers]
    said = f"{believed} of 2 false cards were believed, before and after the true one was pinned by its fingerprint."
    return Finding(not believed and true_taken and pinned == [True], said, {"believed": believed})


def _taken(session: Session, told: str) -> bool:
    try:
        session.accept(RESEARCHER, told)
    except DomainError:
        return False
    return True


# -- removed, but not what came before -------------------------------------------------------------------------------


class CheckedOnArrival(Mail):
    """The shipped mail, but that who wrote a letter is checked when it comes only; what waits is good."""

    def _from_inbox(self, path: Path) -> Letter:
        return Letter.from_bytes(path.read_bytes())


def _removed_breaks() -> Finding:
    with shared() as share:
        steward = share.steward.mail
        naive = CheckedOnArrival(steward.identity, steward.peers, steward.relay, steward.log)
        share.researcher.mail.send(STEWARD, "proposal", b"run this")
        naive.fetch()
        naive.peers.remove(RESEARCHER)
        taken = [letter.body for letter in naive.receive()]
    said = f"{len(taken)} of 1 letters that waited when their writer was put out took effect."
    return Finding(taken == [b"run this"], said, {"taken": len(taken)})


def _removed_caught() -> Finding:
    with shared() as share:
        steward, researcher = share.steward, share.researcher
        researcher.mail.send(STEWARD, "proposal", b"run this")
        steward.mail.fetch()
        steward.mail.peers.remove(RESEARCHER)
        researcher.mail.send(STEWARD, "proposal", b"and this")
        taken, back = len(steward.takes()), 0
        mallory = share.mallory.identity.card
        own, half = (
            researcher.identity.card,
            researcher.identity.card.model_copy(update={"sealing": mallory.sealing}),
        )
        for card in (own, half, replace_keys(mallory, own)):
            with suppress(DomainError):
                steward.mail.peers.pin(card)
                back += 1
        taken += len(steward.takes())
        share.south.mail.send(STEWARD, "decision", b"honest")
        honest = [letter.body for letter in steward.takes()]
    said = f"{taken} letters of the removed took effect; {back} of 3 cards with its keys, under any name, came back."
    return Finding(
        not taken and not back and honest == [b"honest"], said, {"taken": taken, "came_back": back}
    )


MUTANTS = (
    Mutant(
        "share-adds-peers",
        "peers-by-hand",
        "Who takes part stands in a list in the shared folder.",
        _adds_breaks,
        _adds_caught,
    ),
    Mutant(
        "trust-on-first-use",
        "peers-by-hand",
        "The card that lies in the shared folder at the first look is believed.",
        _first_breaks,
        _first_caught,
    ),
    Mutant(
        "checked-on-arrival",
        "removed-keys-do-nothing",
        "Who wrote a letter is checked when it comes, and not when it takes effect.",
        _removed_breaks,
        _removed_caught,
    ),
)
