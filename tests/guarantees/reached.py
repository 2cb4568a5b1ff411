"""Which functions are called while a test or an attack runs: what the registry names must be reached by somebody."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from contextlib import contextmanager
from functools import cached_property

from securefl.audit.claims import CLAIMS

ELSEWHERE = {"securefl.training.determinism.settle", "securefl.domain.namespaces.shut"}
"""Called in a process of its own, where nothing is watched."""


def resolve(dotted):
    """What a dotted name stands for: a module, or something in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(dotted)


def code_of(dotted):
    """What runs when the function of that name is called."""
    function = resolve(dotted)
    if isinstance(function, property):
        function = function.fget
    elif isinstance(function, cached_property):
        function = function.func
    function = inspect.unwrap(function)
    return getattr(function, "__func__", function).__code__


@contextmanager
def watched(functions):
    """For the block, which of these are called, in any thread that begins in it; gives the set of their names."""
    names, called = {code_of(dotted): dotted for dotted in functions}, set()

    def watch(frame, event, _argument):
        if event == "call" and frame.f_code in names:
            called.add(names[frame.f_code])

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def left_to(node_id):
    """The functions that are seen in no attack, for which the registry names this test."""
    test, _, _ = node_id.partition("[")
    return {f for claim in CLAIMS.values() for f in claim.tested if claim.test_of(f) == test} - ELSEWHERE


@contextmanager
def reaching(node_id):
    """For the run of this test; it must call what is left to it."""
    functions = left_to(node_id)
    if not functions:
        yield
        return
    with watched(functions) as called:
        yield
    assert called == functions, (
        f"The registry of claims says that this calls {', '.join(functions - called)}."
    )
