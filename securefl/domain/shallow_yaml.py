"""YAML that is small and shallow, and so costs little to read: here, and then in Syft, which bounds nothing.

Source: PyYAML's scanner takes time with the square of the brackets that are open at once, and its composer one frame of
Python's stack for each level. Within these bounds the worst 64 KiB take about a second.
"""

from __future__ import annotations

from typing import Any

import yaml

from securefl.domain.errors import SyftMessageError

LARGEST, DEEPEST, MOST_BRACKETS = 65_536, 12, 200


class _Shallow(yaml.SafeLoader):
    """As Syft's own reading, without aliases, which make a few bytes into very many, and without deep nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise SyftMessageError("Its YAML has aliases.")
        if self._depth >= DEEPEST:
            raise SyftMessageError("Its YAML is nested too deeply.")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_map(data: bytes, what: str, limit: int = LARGEST) -> dict[str, Any]:
    """The map in these bytes; ``what`` names them in errors.

    Raises:
        SyftMessageError: they are none, or longer than ``limit``, nested deeply, or with aliases.
    """
    if len(data) > limit:
        raise SyftMessageError(f"{what} is longer than {limit:,} bytes.")
    # The scanner takes time with the square of the brackets that are open at once, before any node is made.
    if data.count(b"[") + data.count(b"{") > MOST_BRACKETS:
        raise SyftMessageError(f"{what} has more than {MOST_BRACKETS} brackets.")
    try:
        value = _Shallow(data.decode()).get_single_data()
    except SyftMessageError as error:
        raise SyftMessageError(f"{what} is refused. {error}") from error
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise SyftMessageError(f"{what} is not YAML.") from error
    if not isinstance(value, dict):
        raise SyftMessageError(f"{what} is not a map.")
    return value
