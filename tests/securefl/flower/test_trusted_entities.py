"""What Flower 1.41's ``--trusted-entities`` really checks, tried; docs/deploy.md says why we do not use it.

A SuperNode with that option takes mail of a run only after it has looked at the app's ``verifications``. The tests call
the function that does so in Flower's own SuperNode, with Flower's own state.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message, RecordDict
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign, sign_message
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.start_client_internal import _pull_and_store_message

from securefl.flower.supernode import own_app

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
LISTED = {"publisher": KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()}
LICENCE = {"valid_license": "Valid"}


def signature(key: Ed25519PrivateKey, app: bytes, signed_at: int = 1_700_000_000) -> dict[str, str]:
    """As the Hub attaches it."""
    made = sign_message(key, create_message_to_sign(hashlib.sha256(app).digest(), signed_at))
    text = base64.urlsafe_b64encode(made).decode().rstrip("=")
    return {"publisher": json.dumps({"signed_at": signed_at, "signature": text})}


def taken(
    monkeypatch: pytest.MonkeyPatch, verifications: dict[str, str], trusted: dict[str, str] | None
) -> bool:
    """Whether a SuperNode takes our app in, when it comes with these verifications."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    store = ObjectStoreFactory()
    state = NodeStateFactory(store).state()
    state.set_node_id(1)
    app = own_app()
    fab = Fab(hashlib.sha256(app).hexdigest(), app, verifications)
    run = replace(Run.create_empty(1), fab_hash=fab.hash_str, primary_task_type=TaskType.SERVER_APP)
    message = Message(RecordDict(), 1, "query")
    message.metadata.__dict__["_message_id"] = message.object_id
    _pull_and_store_message(
        state=state,
        object_store=store.store(),
        node_config={},
        receive=lambda: (message, get_object_tree(message)),
        get_run=lambda number: run,
        get_fab=lambda digest, number: fab,
        pull_object=lambda number, name: message.deflate(),
        confirm_message_received=lambda number, name: None,
        trusted_entities=trusted,
    )
    return state.get_fab(fab.hash_str) is not None


def test_an_app_sent_from_a_folder_is_refused_whoever_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SuperLink attaches nothing to such an app; ours is one."""
    assert not taken(monkeypatch, {}, LISTED)
    assert taken(monkeypatch, {}, None)  # the control: without the option the same app goes through


def test_a_listed_keys_signature_is_not_enough_without_the_hubs_licence_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not taken(monkeypatch, signature(KEY, own_app()), LISTED)
    assert taken(monkeypatch, LICENCE | signature(KEY, own_app()), LISTED)


def test_the_signature_must_be_a_listed_keys_over_these_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not taken(monkeypatch, LICENCE, LISTED)
    assert not taken(monkeypatch, LICENCE | signature(OTHER, own_app()), LISTED)
    assert not taken(monkeypatch, LICENCE | signature(KEY, own_app() + b" "), LISTED)


def test_nobody_asks_how_old_a_signature_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """So an app that was signed once, and turned out bad, stays trusted until its key is taken off the list."""
    assert taken(monkeypatch, LICENCE | signature(KEY, own_app(), signed_at=0), LISTED)
