"""What the secure run is compared with. All need the records or the updates in one place: simulations only.

- ``float``: federated averaging without any encoding.
- ``pooled``: all records in one place.
- ``local``: each hospital alone.

``plaintext``, the same integers added in the clear, is computed beside the rounds: see ``securefl.plaintext``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from securefl import durable
from securefl.data import Records
from securefl.errors import RunError
from securefl.models import build_model
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.training.evaluate import evaluate
from securefl.training.local import round_seed, train
from securefl.training.schedule import schedule_factor
from securefl.training.server import ServerState, Vector
from securefl.training.trainer import Trainer, scaled
from securefl.world import World, pooled

Result = dict[str, Any]


def compute(run: RunFolder, study: Study, name: str) -> Result:
    """Run one baseline of a finished run and write ``baselines/NAME.json``.

    Returns:
        ``accuracy`` (after each round or epoch), ``model`` (digest, for the federated ones), ``hospitals`` (for local).
    """
    if not study.simulation:
        raise RunError("Baselines pool data: they exist for studies marked [simulation] only.")
    world = World.of(study, Terms.of(study, run.consortium(study), run.unchecked()))
    statistics = run.settled(0)
    total = world.follow(world.start(), statistics).statistics
    match name:
        case "float":
            result = _float(run, world, total)
        case "pooled":
            result = _pooled(world, total)
        case "local":
            result = _local(world, total)
        case _:
            raise RunError(f"There is no baseline {name}: there are float, pooled and local.")
    durable.write(run.baselines / f"{name}.json", json.dumps(result).encode(), mode=0o644)
    return result


def _float(run: RunFolder, world: World, total: Vector) -> Result:
    settings = world.study.settings
    trainers = {h: Trainer(settings, world.study.folder, h, data) for h, data in world.data.items()}
    for trainer in trainers.values():
        trainer.use_statistics(total)
    state, accuracy = ServerState.initial(world.initial), []
    for outcome in (signed.outcome for signed in run.outcomes()[1:]):
        updates = [trainers[h].update(state.model, outcome.round) for h in outcome.included]
        state = state.step(np.sum(updates, axis=0), world.layout.trainable_size, settings.server)
        score = world.score(state.model, total)
        accuracy.append(score.accuracy if score else None)
    return {"accuracy": accuracy, "model": state.digest().hex(), "hospitals": None}


def _pooled(world: World, total: Vector) -> Result:
    records = pooled([data.train for data in world.data.values()])
    return {"accuracy": _alone(world, total, records, "pooled"), "model": None, "hospitals": None}


def _local(world: World, total: Vector) -> Result:
    hospitals = {h: _alone(world, total, data.train, h) for h, data in world.data.items()}
    accuracy = [float(np.mean(epoch)) for epoch in zip(*hospitals.values(), strict=True)]
    return {"accuracy": accuracy, "model": None, "hospitals": hospitals}


def _alone(world: World, total: Vector, records: Records, name: str) -> list[float]:
    """Accuracy after each epoch of ordinary training on these records."""
    settings = world.study.settings
    training, simulation = settings.training, settings.simulation
    epochs = training.rounds * training.local_epochs
    if simulation is not None and simulation.pooled_epochs is not None:
        epochs = simulation.pooled_epochs
    shape = records.features.shape[1:]
    model = build_model(settings.model, world.study.folder, shape, world.classes, settings.seed)
    accuracy: list[float] = []
    test = scaled(world.test, total, settings) if world.test else records

    def after_epoch() -> None:
        accuracy.append(evaluate(model, test).accuracy)

    train(
        model,
        scaled(records, total, settings),
        training,
        factors=[schedule_factor(training.schedule, epoch + 1, epochs) for epoch in range(epochs)],
        seed=round_seed(settings.seed, name, 0),
        after_epoch=after_epoch,
    )
    return accuracy
