"""What Syft keeps at its carrier, kept in a person's own home instead: messages on their way in, and collections.

Syft would also keep there a second copy of an owner's state, to bring it back on another computer. Here the home is the
only copy: a second one that is older would put old files over newer ones at every start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from protocols.canonical import Record
from protocols.errors import EncodingError
from securefl import durable
from securefl.domain.errors import IdentityError
from securefl.domain.remembered import Remembered

R = TypeVar("R", bound=Record)


class Incoming(Record):
    """A message for Syft, checked and built anew. ``job`` is the folder that it makes in the datasite, or empty."""

    kind = "syft-incoming"
    name: str
    job: str
    data: bytes


class Collection(Record):
    """A dataset's mock files. Of an own one also: for whom (``any`` or ``users``), and who has which."""

    kind = "syft-collection"
    tag: str
    content_hash: str
    files: dict[str, bytes]
    any: bool
    users: list[str]
    sent: dict[str, str]


@dataclass(frozen=True)
class Label:
    """All of a collection but its files."""

    tag: str
    content_hash: str
    empty: bool
    any: bool
    users: list[str]
    sent: dict[str, str]


@dataclass(frozen=True)
class Item:
    """A message that waits; ``tries`` counts how often Syft had it."""

    path: Path
    tries: int
    message: Incoming


class Spool:
    """Messages of each sender, in the order of their letters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, sender: str, key: str, message: Incoming) -> None:
        """Add one, unless it waits already. ``key`` sorts."""
        folder = self._folder / sender
        if not any(folder.glob(f"{key}.*.item")):
            durable.write(folder / f"{key}.0.item", message.to_bytes())

    def items(self, sender: str) -> Iterator[Item]:
        """Those that wait."""
        for path in sorted((self._folder / sender).glob("*.item")):
            yield Item(path, int(path.suffixes[-2][1:]), _parsed(Incoming, path))

    def tried(self, item: Item) -> Item:
        """Count a try, durably, before Syft gets the message."""
        path = item.path.with_name(f"{item.path.name.split('.')[0]}.{item.tries + 1}.item")
        item.path.rename(path)
        durable.sync_folder(path.parent)
        return Item(path, item.tries + 1, item.message)

    def item(self, sender: str, name: str) -> Item:
        """The one of this name; KeyError if it does not wait."""
        for item in self.items(sender):
            if item.message.name == name:
                return item
        raise KeyError(name)


class Shelf:
    """Collections by tag. Their files, which may be large, are read when they are wanted only."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._labels = folder, Remembered(_label)

    def put(self, collection: Collection) -> None:
        """Keep one; an older one of its tag goes."""
        durable.write(self._folder / f"{collection.tag}.cbor", collection.to_bytes())

    def get(self, tag: str) -> Collection | None:
        """The one of this tag."""
        path = self._folder / f"{tag}.cbor"
        return _parsed(Collection, path) if path.exists() else None

    def remove(self, tag: str) -> None:
        """Forget one."""
        (self._folder / f"{tag}.cbor").unlink(missing_ok=True)

    def labels(self) -> list[Label]:
        """Of all, by tag."""
        return [self._labels.get(path) for path in sorted(self._folder.glob("*.cbor"))]


class Shelves:
    """A shelf for each sender."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shelves: dict[str, Shelf] = {}

    def of(self, sender: str) -> Shelf:
        """This sender's."""
        return self._shelves.setdefault(sender, Shelf(self._folder / sender))


def _label(path: Path) -> Label:
    fields = _parsed(Collection, path).model_dump()
    return Label(empty=not fields.pop("files"), **fields)


def _parsed(kind: type[R], path: Path) -> R:
    try:
        return kind.from_bytes(path.read_bytes())
    except EncodingError as error:
        raise IdentityError(f"{path} is damaged: move it away, and ask its sender to send again.") from error
