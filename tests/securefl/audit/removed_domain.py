"""The domain's protections taken out of what ships, one by one; see ``test_mutants_controls.py``."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from itertools import count

from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

import securefl.domain.serving
import securefl.domain.session
import securefl.roles.hospital
from protocols.envelope import SealingKey
from securefl.audit.mutants.share import MALLORY, NOW, SOUTH, STEWARD
from securefl.consent import Consent
from securefl.domain import child, frames, log, release, sandbox
from securefl.domain.cards import read_card
from securefl.domain.frames import Frame, Inside
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers
from securefl.domain.runs import Runs
from securefl.domain.seen import Cursor
from securefl.domain.verifying import Record
from securefl.flower.supernode import OwnAppState
from securefl.permit import PERMIT_FILE, EndorsedPermit, SignedPermit
from securefl.study import Study


class Started:
    """A node that is not really started: what is asked is whether it would have been."""

    def wait(self, _seconds):
        pass

    def stop(self):
        pass


def starts_nothing(patch):
    patch(child.sandbox, "start", lambda _cell: Started())


def permits_of_any_study(patch):
    starts_nothing(patch)
    patch(Consent, "permit", lambda consent: consent._read(SignedPermit, PERMIT_FILE).permit)


def copies_unchecked(patch):
    starts_nothing(patch)

    def copy(study, _digest, _consortium, to):
        shutil.copytree(study, to, dirs_exist_ok=True)
        return Study.load(to)

    patch(child, "copy_study", copy)


def nobody_asks_the_steward(patch):
    patch(securefl.roles.hospital, "declined", lambda *_: None)


def runs_begin_anew(patch):
    begun = count(1)
    patch(Runs, "begin", lambda _runs, _allowed: next(begun))


def frames_unverified(patch):
    """Everything that lies there opens, and is whose place it lies in."""
    inside, numbers = Inside(topic="decision", time=NOW, head=b"", content=b"honest").to_bytes(), count(1)

    def anybodys(_kind, _data):
        return Frame(sender=SOUTH, recipient=STEWARD, number=next(numbers), sealed=b"", signature=b"")

    patch(frames, "verify", lambda *_: None)
    patch(Frame, "from_bytes", classmethod(anybodys))
    patch(SealingKey, "open", lambda *_: inside)


def numbers_forgotten(patch):
    patch(Cursor, "check", lambda *_: None)


def letters_unsealed(patch):
    seal, length = frames.seal, len(SealingKey.generate().public)
    contents = []

    def beside(recipient, content, binding):
        contents.append(content)
        assert len(recipient) == length
        return seal(recipient, content, binding) + content

    patch(frames, "seal", beside)
    patch(SealingKey, "open", lambda *_: contents[-1])


def bad_letters_raise(patch):
    def raises(_mail, _sender, _entry, error):
        raise error

    patch(Mail, "_refuse", raises)


def everybody_with_a_card(patch):
    known = Peers.all

    def listed(peers):
        relay = peers._folder.parent.parent / "relay"
        cards = [read_card(path.read_bytes()) for path in relay.glob("*/card.cbor")]
        pinned = known(peers)
        return [*pinned, *(c for c in cards if c.email == MALLORY and c not in pinned)]

    patch(Peers, "all", listed)
    patch(Peers, "get", lambda peers, email: next(card for card in listed(peers) if card.email == email))


def fingerprints_not_compared(patch):
    patch(securefl.domain.session.hmac, "compare_digest", lambda *_: True)


def removal_forgotten(patch):
    patch(Peers, "remove", lambda _peers, _email: None)


def endorsements_unchecked(patch):
    patch(EndorsedPermit, "checked", lambda endorsed, _key: endorsed.signed.permit)


def any_record_will_do(patch):
    record = Record(accepted=True, sentence="", included=(), claims=(), confinement="")
    patch(release, "verify_confined", lambda _run, _consortium: record)


def any_sender_will_do(patch):
    take_piece, models = release.take_piece, []

    def from_anybody(owner, _operator, piece):
        coordinator = release._decided(owner, piece.proposal).proposal.coordinator
        return take_piece(owner, coordinator, piece)

    def same_as_first(run, _consortium):  # quick: this control is not about the record
        models.append((run / "model.safetensors").read_bytes())
        return Record(models[-1] == models[0], "", (), (), "")

    patch(securefl.domain.serving, "take_piece", from_anybody)
    patch(release, "verify_confined", same_as_first)


def no_heads(patch):
    patch(log, "_opened_head", lambda _data, public: log._genesis(public))


def lines_unchained(patch):
    check = log._check_line

    def by_itself(line, before, public):
        fields = json.loads(line)
        at = {"number": fields["number"] - 1, "last": bytes.fromhex(fields["previous"])}
        return check(line, before.model_copy(update=at), public)

    patch(log, "_check_line", by_itself)


def heads_not_kept(patch):
    verify = log.verify
    patch(log, "verify", lambda where, public, _witnessed=(): verify(where, public))


def the_owners_environment(patch):
    patch(sandbox, "clean_environment", lambda: dict(os.environ))


def no_walls(patch):
    start = sandbox.start

    def beside(cell):
        """The folder of the hospital's keys is there too."""
        keys = cell.folder.parent / "keys"
        return start(replace(cell, files={**cell.files, keys: True}) if keys.exists() else cell)

    patch(sandbox, "start", beside)


def any_app(patch):
    patch(OwnAppState, "store_fab", InMemoryNodeState.store_fab)
    patch(OwnAppState, "create_task", InMemoryNodeState.create_task)


REMOVED = {
    "approval-by-name": [permits_of_any_study],
    "digest-at-approval-only": [copies_unchecked],
    "permit-once": [nobody_asks_the_steward],
    "runs-counted-at-the-end": [runs_begin_anew],
    "sender-by-envelope-text": [frames_unverified],
    "letters-taken-again": [numbers_forgotten],
    "letters-in-the-open": [letters_unsealed],
    "first-bad-letter-ends-the-look": [bad_letters_raise],
    "share-adds-peers": [everybody_with_a_card],
    "trust-on-first-use": [fingerprints_not_compared],
    "checked-on-arrival": [removal_forgotten],
    "stewards-by-the-proposal": [endorsements_unchecked],
    "released-as-it-came": [any_record_will_do, any_sender_will_do],
    "unchained-log": [lines_unchained, no_heads],
    "log-without-witnesses": [heads_not_kept],
    "runner-as-the-owner": [the_owners_environment, no_walls],
    "app-from-the-superlink": [any_app],
}
