"""The registry's types: a claim, the mutants that stand against it, and what is found when a mutant is run.

A claim is a promise with its limits. A mutant is a protocol that lacks what one claim rests on, and the attack that
this invites: it is run against the naive protocol, where it must succeed, and against what ships, where it must fail.
Nothing here knows the answer: every finding is computed from what the attack got.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Number = int | float | str


@dataclass(frozen=True)
class Finding:
    """What one attack came to.

    Attributes:
        holds: whether it came out as the mutant says it must.
        sentence: what the attacker got, or how it was refused.
        numbers: what was counted, by name.
        shown: whether this computer lets the attack show anything; the sentence says why not. It then does not hold.
    """

    holds: bool
    sentence: str
    numbers: Mapping[str, Number] = field(default_factory=dict)
    shown: bool = True

    def __post_init__(self) -> None:
        if self.holds and not self.shown:
            raise ValueError("What is not shown does not hold.")


@dataclass(frozen=True)
class Mutant:
    """A protocol with one protection left out, and the attack on it.

    Attributes:
        name: a short slug.
        claim: the claim that it stands against, by id.
        changed: the naive protocol, in one sentence.
        breaks: the attack against the naive protocol; holds if the attacker gets what it wants.
        caught: the same attack against what ships; holds if the attacker does not.
    """

    name: str
    claim: str
    changed: str
    breaks: Callable[[], Finding] = field(repr=False)
    caught: Callable[[], Finding] = field(repr=False)

    @property
    def module(self) -> str:
        """Where it is written."""
        return self.caught.__module__  # a function of its module, or a lambda in it


Behaviour = Literal["none", "semi-honest", "malicious"]
"""What those who work together do: nothing (accidents only); follow the program and remember everything; anything."""
Way = Literal["construction", "property test", "statistical test", "attack"]
"""How a claim is shown: by how it is built, for every case of a kind, with an error level, against somebody."""
ROLES = ("hospital", "party", "coordinator", "dealer", "researcher", "steward", "network", "thief", "reader")
"""Who may work together: the members, what lies between them, who seizes machines, and who is handed the files."""


@dataclass(frozen=True)
class Claim:
    """A promise.

    Attributes:
        id: a short slug.
        statement: one plain sentence.
        adversary: against whom it holds, in words.
        colluding: the roles that work together, of ``ROLES``; none where accidents are meant.
        behaviour: what these do.
        where: dotted names of the functions that enforce it.
        how: the ways in which it is shown.
        error: the error level of the statistical test, and only of one.
        shown: the tests that show it, ``tests/file.py::test``.
        limits: what is not claimed.
        mutants: names of the mutants that stand against it.
        tested: of ``where``, what no mutant's attack is seen to call, with the name of the test of ``shown`` that does.

    Raises:
        ValueError: no mutant, or nothing enforces or shows it; or roles and behaviour, or statistics and error level,
            do not go together; or a function or test of ``tested`` is none of the claim's.
    """

    id: str
    statement: str
    adversary: str
    colluding: tuple[str, ...]
    behaviour: Behaviour
    where: tuple[str, ...]
    how: tuple[Way, ...]
    shown: tuple[str, ...]
    limits: str
    mutants: tuple[str, ...]
    error: str = ""
    tested: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.where and self.shown and self.how):
            raise ValueError(f"The claim {self.id} names nothing that enforces it, or nothing that shows it.")
        if not self.mutants:
            raise ValueError(f"The claim {self.id} needs a mutant: a test that cannot fail shows nothing.")
        if bool(self.colluding) == (self.behaviour == "none") or not set(self.colluding) <= set(ROLES):
            raise ValueError(f"The claim {self.id} must say which roles work together, and what they do.")
        if bool(self.error) != ("statistical test" in self.how):
            raise ValueError(
                f"The claim {self.id} needs the error level of its statistical test, and of no other."
            )
        names = [shown.partition("::")[2] for shown in self.shown]
        if not (
            set(self.tested) <= set(self.where) and all(names.count(t) == 1 for t in self.tested.values())
        ):
            raise ValueError(
                f"The claim {self.id} says of what it does not name that it is tested, or by what."
            )

    def test_of(self, function: str) -> str | None:
        """The test of ``shown`` to which a function is left that no attack is seen to call; None of any other."""
        if function not in self.tested:
            return None
        return next(shown for shown in self.shown if shown.endswith(f"::{self.tested[function]}"))


@dataclass(frozen=True)
class Trial:
    """A mutant that was run.

    Attributes:
        breaks, caught: the findings.
        seconds: processor time of both attacks together, all threads.
    """

    mutant: Mutant
    breaks: Finding
    caught: Finding
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the naive protocol broke and what ships did not."""
        return self.breaks.holds and self.caught.holds

    @property
    def fault(self) -> str:
        """Two or three words that say why it does not hold; empty if it does."""
        if not self.breaks.holds:
            return "DOES NOT BREAK"
        if not self.caught.shown:
            return "NOT SHOWN HERE"
        return "" if self.caught.holds else "NOT CAUGHT"


def try_mutant(mutant: Mutant) -> Trial:
    """Run both attacks. An attack that ends in an error of its own shows nothing: that finding does not hold."""
    started = time.process_time()
    breaks, caught = _finding(mutant.breaks), _finding(mutant.caught)
    return Trial(mutant, breaks, caught, time.process_time() - started)


def _finding(attack: Callable[[], Finding]) -> Finding:
    try:
        return attack()
    except Exception as error:  # whatever went wrong, the attack did not end as it must
        said = str(error).splitlines()
        return Finding(
            False, f"The attack did not run: {type(error).__name__}{': ' + said[0] if said else ''}"
        )
