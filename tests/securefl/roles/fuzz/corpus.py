"""Runs in which everything happens once, and what was said in them, by kind."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from securefl.roles.messages import Message, Part, read_message

from .mutation import Pool
from .points import Point, World, recorder


class Corpus:
    """The messages and points of some runs, by kind."""

    def __init__(self, worlds: list[World]) -> None:
        self.worlds = worlds
        self.pool = Pool()
        self.messages: dict[str, list[bytes]] = defaultdict(list)
        self.due: dict[str, list[Point]] = defaultdict(list)
        self.roles: dict[str, list[Point]] = defaultdict(list)
        for world in worlds:
            for _sender, _to, data in world.wire:
                message = read_message(data)
                if data not in self.messages[message.kind]:
                    self.messages[message.kind].append(data)
                    self.pool.add([message.kind, message.body()])
            for point in world.points:
                self.due[read_message(point.due).kind].append(point)
                self.roles[point.role].append(point)

    @classmethod
    def played(cls, theatre: Any, root: Path) -> Corpus:
        """The runs of the stage."""
        first = adventurous(theatre, root / "adventurous")
        second = bounded(theatre, root / "bounded")
        return cls([first, second, another(theatre, root / "another", first, root / "adventurous")])


def adventurous(theatre, folder) -> World:
    """A party is lost after its vote, a hospital loses its memory, one declines, and a part is refused."""
    cast = theatre.cast(4, 3, 2, 32, None, 2)
    world = World("adventurous", cast)
    faults = {"charite": {2: np.full(theatre.size, 1e9)}}
    stage = recorder(theatre.stage)(world, folder, {}, faults=faults)
    stage.run(until=lambda: stage.facts["party-2"].round == 1 and stage.facts["party-2"].voted)
    stage.lose("party-2")
    stage.run(until=lambda: stage.coordinator.replica.place.round == 2)

    def spoil(_sender: str, recipient: str, message: Message) -> Message:
        spoilt = (
            isinstance(message, Part)
            and recipient == "party-3"
            and message.contribution.hospital == "st-anna"
        )
        return message.model_copy(update={"envelope": message.envelope[::-1]}) if spoilt else message

    stage.tamper = spoil
    stage.run(until=lambda: stage.facts["va"].round == 2)
    stage.store("va").path("memory").unlink()
    stage._restart("va")
    stage.facts["va"] = replace(stage.facts["va"], round=0, previous=cast.terms.beginning)
    finish(stage)
    return world


def bounded(theatre, folder) -> World:
    """With a norm bound, which one hospital's update exceeds."""
    cast = theatre.cast(4, 2, 1, 32, 100.0)
    world = World("bounded", cast)
    faults = {"va": {1: np.full(theatre.size, 50.0)}}
    finish(recorder(theatre.stage)(world, folder, {}, faults=faults))
    assert world.genuine.by_kind["signed-prepared"][-1].excluded == {"va": "norm-too-large"}
    return world


def another(theatre, folder, before: World, before_folder) -> World:
    """Another study among the members of the first, from the same model: the parties have their ledgers from there.

    A party is lost when it has prepared, another when its opening share has left.
    """
    cast = replace(before.cast, terms=replace(before.cast.terms, study=bytes(range(32)), rounds=1))
    world = World("another", cast)
    opened = {}
    for name in cast.terms.parties:
        shutil.copytree(before_folder / f"{name}-ledger", folder / f"{name}-ledger")
        facts = [point.facts for point in before.points if point.name == name]
        opened[name] = facts[-1].opened
    stage = recorder(theatre.stage)(world, folder, opened)
    stage.run(until=lambda: stage.facts["party-1"].round == 1 and stage.facts["party-1"].prepared)
    stage.lose("party-1")
    stage.run(until=lambda: stage.facts["party-3"].round == 1 and stage.facts["party-3"].released)
    stage.lose("party-3")
    finish(stage)
    return world


def finish(stage: Any) -> None:
    stage.run()
    while moves := stage.moves():
        moves[0]()
