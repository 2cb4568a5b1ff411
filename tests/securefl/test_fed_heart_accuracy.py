"""The heart study reaches what it should on real hospitals: the shipped study, ten splits, through the encoding.

The sums are added as plain integers here; that the committee opens the same ones is shown elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protocols.ring import Encoding, signed
from securefl.data import load_all, statistics_vector
from securefl.models import build_model
from securefl.study import Study
from securefl.training.evaluate import evaluate
from securefl.training.server import ServerState
from securefl.training.trainer import Trainer, scaled
from securefl.world import pooled

EXAMPLE = Path(__file__).parents[2] / "examples" / "fed_heart"


def federated_accuracy(split_seed: int) -> float:
    study = Study.load(EXAMPLE)
    data_settings = study.settings.data.model_copy(update={"split_seed": split_seed})
    settings = study.settings.model_copy(update={"data": data_settings})
    names = settings.consortium.hospital_names()
    data = load_all(settings.data, study.folder, names, settings.seed)
    trainers = {name: Trainer(settings, study.folder, name, d) for name, d in data.items()}
    total = np.sum([statistics_vector(d.train, settings.data.standardise) for d in data.values()], axis=0)
    for trainer in trainers.values():
        trainer.use_statistics(total)
    first = trainers[names[0]]
    encoding = Encoding.for_bound(settings.aggregation.width, settings.aggregation.bound, len(names))
    state = ServerState.initial(first.initial_model())
    for round_ in range(1, settings.training.rounds + 1):
        encoded = [signed(encoding.encode(t.update(state.model, round_))) for t in trainers.values()]
        delta = encoding.decode_sum(np.sum(encoded, axis=0))
        state = state.step(delta, first.layout.trainable_size, settings.server)
    test = pooled([d.test for d in data.values()])
    model = build_model(settings.model, study.folder, test.shape, 2, settings.seed)
    first.layout.load(model, state.model)
    return evaluate(model, scaled(test, total, settings)).accuracy


def test_accuracy_over_all_test_records_is_at_least_0_79_in_the_mean_of_ten_splits() -> None:
    accuracies = [federated_accuracy(seed) for seed in range(10)]
    print(f"fed-heart, ten splits: {np.mean(accuracies):.4f} +- {np.std(accuracies, ddof=1):.4f}")
    assert np.mean(accuracies) >= 0.79
