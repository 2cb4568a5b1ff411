"""How much a piece of Python does, counted: the same on a busy machine and on a slow one, which no clock is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls(program: Callable[[], Any]) -> int:
    """The calls, of Python's functions and of built-in ones, that ``program`` makes in this thread.

    Work inside one built-in call counts as one: what grows there is for its inputs' bounds to hold.
    """
    count, before = 0, sys.getprofile()

    def counted(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")
        if before is not None:
            before(frame, event, argument)

    sys.setprofile(counted)
    try:
        program()
    finally:
        sys.setprofile(before)
    return count
