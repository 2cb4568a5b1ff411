"""What comes back over Flower: the content of each reply, or nothing where there is none that can be read.

Flower puts a reply together again from objects that its sender made, and raises whatever they make it raise, for all
replies that it was asked for at once. One member must not end the run so: from then on each reply is asked for by
itself, and one that Flower cannot read is its sender's loss alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from flwr.app import RecordDict
from flwr.serverapp import Grid

log = logging.getLogger(__name__)


class Replies:
    """The replies of one run. Not for several threads.

    Args:
        grid: Flower's.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._one_by_one = False

    def pull(self, numbers: Iterable[str]) -> dict[str, RecordDict | None]:
        """The replies that have come to messages of these numbers: the content, or None for an error.

        Raises whatever Flower's client raises when the SuperLink is gone.
        """
        asked = dict.fromkeys(numbers)
        if not asked:
            return {}
        found: dict[str, RecordDict | None] = {}
        for some in [[number] for number in asked] if self._one_by_one else [list(asked)]:
            found |= self._pulled(some)
        return {number: content for number, content in found.items() if number in asked}

    def _pulled(self, numbers: list[str]) -> dict[str, RecordDict | None]:
        try:
            replies = list(self._grid.pull_messages(numbers))
        except Exception as error:
            self._grid.get_nodes()  # raises too, unless it is a reply that cannot be read
            log.warning("Flower cannot read a reply (%s).", type(error).__name__)
            self._one_by_one = True
            # What was lost of several with the one comes back as errors, when each is asked for by itself.
            return {numbers[0]: None} if len(numbers) == 1 else {}
        contents = {r.metadata.reply_to_message_id: r.content if r.has_content() else None for r in replies}
        return {n: content if isinstance(content, RecordDict) else None for n, content in contents.items()}
