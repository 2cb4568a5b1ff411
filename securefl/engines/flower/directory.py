"""Which SuperNode speaks for which member.

The name under which the operator registered a SuperNode's key decides. A node that was registered without one (a
SuperLink without node authentication, a simulation) is asked; what it answers decides only where mail is carried to:
what a member says is believed by its signature alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flwr.serverapp import Grid

from securefl.engines.flower import mail
from securefl.engines.flower.replies import Replies
from securefl.errors import EngineError

HELLO_SECONDS = 120.0
ASKED_AT_ONCE = 16
"""Nodes of a simulation share a few actors: who waits behind hundreds of others would answer too late, and be asked
again, for ever."""


@dataclass(frozen=True)
class Reached:
    """A member's node, and since when it is up: one that was started anew has lost the mail that it had taken."""

    node: int
    since: str


class Directory:
    """The nodes of a run. Not for several threads.

    Args:
        grid: Flower's.
        members: who may take part.
    """

    def __init__(self, grid: Grid, members: Iterable[str]) -> None:
        self._grid, self._members = grid, frozenset(members)
        self._replies = Replies(grid)
        self._asked: dict[str, int] = {}
        self._said: dict[int, str | None] = {}

    @property
    def asking(self) -> bool:
        """Whether nodes have been asked whose they are, and have not answered yet."""
        return bool(self._asked)

    def online(self) -> dict[str, Reached]:
        """The members that can be reached now.

        Raises:
            EngineError: two nodes are registered under one member's name.
        """
        infos = {info.node_id: info for info in self._grid.get_nodes()}
        nodes = {node: info.name for node, info in infos.items()}
        self._hear(nodes)
        found: dict[str, int] = {}
        for node, name in sorted(nodes.items()):
            if name in self._members and found.setdefault(name, node) != node:
                raise EngineError(f"Two SuperNodes are registered as {name}: unregister the one that is not.")
        for node in self._said:
            said = self._said[node]
            if node in nodes and nodes[node] not in self._members and said is not None:
                found.setdefault(said, node)
        return {m: Reached(node, infos[node].last_activated_at) for m, node in found.items()}

    def _hear(self, nodes: dict[int, str]) -> None:
        unknown = [
            node
            for node, name in nodes.items()
            if name not in self._members and node not in self._said and node not in self._asked.values()
        ]
        unknown = unknown[: max(ASKED_AT_ONCE - len(self._asked), 0)]
        if unknown:
            hellos = [
                self._grid.create_message(mail.packed([], ""), mail.HELLO, node, "hello", HELLO_SECONDS)
                for node in unknown
            ]
            self._asked.update(zip(self._grid.push_messages(hellos), unknown, strict=True))
        for number, content in self._replies.pull(self._asked).items():
            node = self._asked.pop(number)
            if content is None:
                continue  # it is asked again
            said = mail.addressee(content)
            self._said[node] = said if said in self._members else None
