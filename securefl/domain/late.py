"""Late letters: the share can keep one back and deliver it after a newer one, which it must not overrule.

Beside what a letter's word is kept in lies the number of that letter, and whose keys it came under.
"""

from __future__ import annotations

import json
from pathlib import Path

from securefl import durable
from securefl.domain.errors import IdentityError
from securefl.domain.frames import Letter


def is_late(path: Path, letter: Letter) -> bool:
    """Whether ``path`` was written from a letter of the same keys that is not older than this one.

    Raises:
        IdentityError: what is kept about it is damaged.
    """
    beside = _beside(path)
    try:
        said = json.loads(beside.read_text())
        return bool(said["keys"] == letter.keys.hex() and letter.number <= int(said["number"]))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IdentityError(f"{beside} is damaged: restore it from its backup.") from error


def mark(path: Path, letter: Letter) -> None:
    """After ``path`` was written from a letter. A crash in between lets the letter come, and count, again."""
    durable.write(_beside(path), json.dumps({"keys": letter.keys.hex(), "number": letter.number}).encode())


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.from")
