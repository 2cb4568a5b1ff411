"""Silence for a log while an attack goes on: what it tells of each refusal would stand between the audit's lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(name: str = "flwr") -> Iterator[None]:
    """For the block, the log of that name says nothing; Flower's, if none is named."""
    log = logging.getLogger(name)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
