"""Gradient inversion on a run: the attacks on what each onlooker sees of a round of this study.

The target is a patient with one record, alone in an update: the attacker's easiest case, also in that the gradient is
taken without dropout and at the first model, where gradients are large. Encoding, clip, noise and parties are those of
the run.

Two models can be attacked. ``study`` is the run's own; ``small`` is the network on which deep leakage from gradients
was published, with the same records in the same rounds: the control that shows that these attacks do succeed where
nothing is hidden, whatever the study's model makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from protocols.contribution import RoundContext
from protocols.prg import RingVector
from protocols.ring import from_bytes
from securefl.attacks.image_quality import WINDOW
from securefl.attacks.inversion import gradient_of
from securefl.attacks.inversion_trial import DEFAULT_METHODS, InversionReport, Targets, attack
from securefl.attacks.views import Round, other_patients, views
from securefl.data import Records
from securefl.errors import RunError
from securefl.models import Layout
from securefl.roles.terms import UPDATE, Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.training.determinism import single_thread
from securefl.training.schedule import schedule_factor
from securefl.training.trainer import scaled
from securefl.world import World, pooled

_SMALL_SEED = 1


def run_inversion(
    run: Path,
    targets: int = 8,
    seed: int = 0,
    model: Literal["study", "small"] = "study",
    methods: Sequence[str] = DEFAULT_METHODS,
    iterations: int = 300,
    restarts: int = 2,
    progress: Callable[[str], None] = lambda _line: None,
) -> InversionReport:
    """Attack the first round of training of a run, of a study marked ``[simulation]``. Some 20 seconds a target.

    The opened sum is, under privacy of patients, that of a new round in which the target takes part and the other
    patients are drawn; else the sum that the run really opened (for the model ``small``: of one step of every hospital
    on all its records).

    Args:
        run: its folder; round 1 is settled.
        targets: patients of the first hospital, at least 2.
        seed: of the choice of targets, of the attacks' random starts, and of the bootstrap.
        model: see the module.
        methods, iterations, restarts: see :func:`securefl.attacks.inversion.invert`.
        progress: takes a line after each target.

    Raises:
        RunError: no simulation, no settled round of training, records that are no images, or too few patients.
    """
    single_thread()
    folder = RunFolder(Path(run).absolute())
    world = _world(folder)
    outcomes = folder.outcomes()
    if len(outcomes) < 2:
        raise RunError(f"{run} has no settled round of training yet: let it go on, then attack it.")
    statistics = world.follow(world.start(), folder.settled(0)).statistics
    train = {name: scaled(d.train, statistics, world.study.settings) for name, d in world.data.items()}
    hospital = next(iter(train))
    patients = _chosen(train[hospital], targets, seed)
    context, attacked = outcomes[1].outcome.context, world.model
    world.layout.load(world.model, world.initial)
    if model == "small":
        attacked = published_network(train[hospital].shape, world.classes)
        context = context.model_copy(update={"size": Layout.of(attacked).size})
    round_ = _round(world, context, hospital, float(statistics[0]))
    opened = others = None
    private = world.terms.private
    if private is not None and private.settings.unit == "patient":
        rate = private.settings.sampling_rate
        others = other_patients(attacked, train, {hospital: patients}, rate, round_)
    elif model == "small":
        others = _one_step_each(attacked, train, round_)
    else:
        opened = from_bytes(folder.settled(1).total, context.width, context.size)
    groups = train[hospital].patient_groups()
    everything = pooled(list(train.values())).features
    report = attack(
        Targets(
            attacked,
            train[hospital].take(np.array([groups[p][0] for p in patients], dtype=np.int64)),
            world.classes,
            everything.mean(0),
            (float(everything.min()), float(everything.max())),
        ),
        lambda gradient: views(round_, gradient, others, opened),
        methods,
        clip=round_.clip,
        seed=seed,
        iterations=iterations,
        restarts=restarts,
        progress=progress,
    )
    name = world.study.settings.name
    return replace(report, study=name, hospital=hospital, model=model, private=private is not None)


def published_network(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of Zhu, Liu and Han 2019, section 4.1, on images (C, H, W): LeNet with strides in place of pooling,
    sigmoids in place of rectifiers, and weights uniform from -1/2 to 1/2, always the same.

    Not so the last layer, which has torch's own smaller ones: on images larger than the paper's the scores would be so
    far apart that the right class has probability 1 and the gradient is rounded to nothing.
    """
    channels, height, width = shape
    flat = 12 * math.ceil(height / 4) * math.ceil(width / 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SMALL_SEED)
        network = nn.Sequential(
            nn.Conv2d(channels, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, padding=2),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(flat, classes),
        )
        for parameter in list(network.parameters())[:-2]:
            nn.init.uniform_(parameter, -0.5, 0.5)
    return network


def _world(folder: RunFolder) -> World:
    """A run's study and what it amounts to here."""
    study = Study.load(folder.path / "study")
    if study.settings.simulation is None:
        raise RunError(
            "Attacks need the records that they look for, and this study is not marked [simulation]: attack a "
            "simulation of it."
        )
    data = study.settings.data
    if data.root is not None:
        # Relative to where the study was read from, not to its copy.
        root = str(Path(folder.info().get("folder", "")) / data.root)
        data = data.model_copy(update={"root": root})
        study = replace(study, settings=study.settings.model_copy(update={"data": data}))
    return World.of(study, Terms.of(study, folder.consortium(study), folder.unchecked()))


def _chosen(records: Records, count: int, seed: int) -> list[int]:
    """Places of patients in ``patient_groups``, drawn at random; the same for the same seed."""
    if len(records.shape) != 3 or min(records.shape[1:]) < WINDOW:
        raise RunError(
            f"Inversion is measured on images of at least {WINDOW} by {WINDOW} pixels, and this study's records have "
            f"shape {records.shape}: attack a study on images."
        )
    patients = len(records.patient_groups())
    if not 2 <= count <= patients:
        raise RunError(f"Between 2 and {patients} patients can be attacked in this run, not {count}.")
    return sorted(int(p) for p in np.random.default_rng(seed).choice(patients, count, replace=False))


def _round(world: World, context: RoundContext, hospital: str, total: float) -> Round:
    """How round 1 of this study encodes an update. ``total``: records of all hospitals, as opened."""
    settings, terms = world.study.settings, world.terms
    training, encoding, private = settings.training, terms.encoding(UPDATE), terms.private
    rate = training.learning_rate * schedule_factor(training.schedule, 1, training.rounds)
    if private is None:
        # One step on one record, with the hospital's weight; the norm bound is a clip.
        factor = -rate * len(world.data[hospital].train) / total
        bound = settings.aggregation.norm_bound
        units = None if bound is None else math.floor(math.ldexp(bound, encoding.fraction_bits))
        return Round(context, hospital, encoding, factor, -rate, units)
    units, variance = private.clip_units, private.party_variance
    if private.settings.unit == "patient":
        expected = private.settings.sampling_rate * (private.settings.patients or 1)
        return Round(context, hospital, encoding, -1.0, -expected, units, variance)
    expected = private.settings.sampling_rate * len(terms.hospitals)
    return Round(context, hospital, encoding, -rate, -rate * expected, units, variance)


def _one_step_each(model: nn.Module, train: Mapping[str, Records], round_: Round) -> RingVector:
    """The sum of what every hospital would send after one step on all its records. (D,)"""
    total = round_.encoded(np.zeros(round_.context.size))
    weight = len(train[round_.hospital])
    for records in train.values():
        # The round's factor has the attacked hospital's weight in it.
        mean = gradient_of(model, records.features, records.labels)
        total += round_.encoded(mean * (len(records) / weight))
    return total
