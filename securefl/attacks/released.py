"""What a run leaves for an attack on its released model: the world rebuilt, the model, and who is a member.

Members are the patients that the hospitals trained on, non-members those held out. Only a simulation, whose records
are in one place, can tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from securefl.attacks.central import Plan
from securefl.data import Records
from securefl.errors import RunError
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.training.schedule import schedule_factor
from securefl.training.trainer import scaled
from securefl.world import World, pooled


@dataclass(frozen=True, eq=False)
class Released:
    """A finished run as an attack sees it.

    Attributes:
        world: the study, its model and records.
        model: as released, in evaluation mode.
        members, non_members: records as the model takes them, patients numbered over all hospitals.
    """

    world: World
    model: nn.Module
    members: Records
    non_members: Records


def rebuilt(run: Path) -> Released:
    """Rebuild a run from its folder: the model by following the receipts, the records by the study.

    Raises:
        RunError: no run, an unfinished one, or not a simulation's.
    """
    folder = RunFolder(Path(run).absolute())
    info = folder.info()
    study = Study.load(folder.path / "study")
    if not study.simulation:
        raise RunError(
            "This attack needs to know who is a member, and this study is not marked [simulation]: attack a simulation."
        )
    if folder.closing() is None:
        raise RunError(f"The run in {folder.path} is not finished: add --resume to end it, then attack it.")
    data = study.settings.data
    if data.root is not None:
        # Relative to where the study was read from, not to its copy.
        data = data.model_copy(update={"root": str(Path(info.get("folder", "")) / data.root)})
        study = replace(study, settings=study.settings.model_copy(update={"data": data}))
    world = World.of(study, Terms.of(study, folder.consortium(study), folder.unchecked()))
    replica = world.start()
    for signed in folder.outcomes():
        replica = world.follow(replica, folder.settled(signed.outcome.round))
    world.layout.load(world.model, replica.state.model)
    members, non_members = (
        scaled(pooled([getattr(d, part) for d in world.data.values()]), replica.statistics, study.settings)
        for part in ("train", "test")
    )
    return Released(world, world.model.eval(), members, non_members)


def plan_of(world: World) -> Plan:
    """The central plan of a study that is private by patient.

    Raises:
        RunError: it is not.
    """
    private, settings = world.terms.private, world.study.settings
    if private is None or private.settings.unit != "patient":
        raise RunError(
            "The study is not private by patient, so no such training can be repeated in one process."
        )
    training, server = settings.training, settings.server

    def learning_rate(round_: int) -> float:
        factor = schedule_factor(training.schedule, round_, training.rounds)
        return training.learning_rate * factor * server.learning_rate

    return Plan(
        rounds=training.rounds,
        rate=private.settings.sampling_rate,
        clip=private.settings.clip,
        fraction_bits=private.encoding.fraction_bits,
        party_variance=private.party_variance,
        parties=private.parties,
        denominator=private.settings.sampling_rate * (private.settings.patients or 1),
        learning_rate=learning_rate,
        momentum=server.momentum if server.optimizer == "fedavgm" else 0.0,
    )
