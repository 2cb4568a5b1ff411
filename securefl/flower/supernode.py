"""A SuperNode that runs one Flower app: the one that starts the installed securefl.

Adversary: the operator of the SuperLink, or who may submit runs there, sends an app with other code.
Promise: no byte of another app is stored or run; the message that came with it is not processed.

Flower 1.41's own ``--trusted-entities`` does not serve here: it checks a signature over the app's digest that only the
Flower Hub attaches, so that it refuses every app that an operator submits from a folder, and ours.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flwr.cli.build import build_fab_from_files
from flwr.supercore.fab import Fab
from flwr.supernode.nodestate import NodeState, NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from securefl.flower.bundle import app_files, flower_environment
from securefl.flower.client_app import NODE_CONFIG
from securefl.member import Places
from securefl.training.determinism import ENVIRONMENT

log = logging.getLogger(__name__)


def own_app() -> bytes:
    """The Flower app bundle of the installed securefl; the same bytes wherever the same version is installed."""
    return build_fab_from_files(app_files())[0]


class OwnAppState(InMemoryNodeState):
    """A SuperNode's state that takes in one app only."""

    own = ""
    """SHA-256 of that app, hexadecimal."""

    def store_fab(self, fab: Fab) -> str:
        """Store the app, if it is ours; the digest is taken of its bytes, whatever comes with them."""
        if hashlib.sha256(fab.content).hexdigest() != self.own:
            log.error("Refused: the SuperLink sent an app that is not the installed securefl's.")
            return fab.hash_str
        return super().store_fab(fab)

    def create_task(self, *args: Any, **kwargs: Any) -> int | None:
        """Begin a task of our app; none of another."""
        if kwargs.get("fab_hash") != self.own:
            log.error("Refused: a run of an app that is not the installed securefl's.")
            return None
        return super().create_task(*args, **kwargs)


class OwnAppFactory(NodeStateFactory):
    """Makes the one state of this SuperNode."""

    def state(self) -> NodeState:
        """As Flower's."""
        with self.lock:
            if self.state_instance is None:
                state = OwnAppState(self.objectstore_factory.store())
                state.own = hashlib.sha256(own_app()).hexdigest()
                self.state_instance = state
            return self.state_instance


def serve(member: Path, arguments: Sequence[str]) -> None:
    """Be a member's SuperNode until the process ends.

    Args:
        member: its ``member.toml``.
        arguments: ``flower-supernode``'s own.

    Raises:
        ConsortiumError: there is no such file, or it is malformed.
    """
    Places.load(member)
    os.environ.update({**flower_environment(), **ENVIRONMENT})  # for the ClientApps' processes
    flower: Any = importlib.import_module("flwr.supernode.cli.flower_supernode")
    flower.NodeStateFactory = OwnAppFactory
    path = str(member.absolute())
    sys.argv = ["flower-supernode", *arguments, "--node-config", f'{NODE_CONFIG}="{path}"']
    flower.flower_supernode()
