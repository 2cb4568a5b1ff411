"""The figures of a run, computed from what it left on disk."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from securefl.data import Records
from securefl.roles.replica import Replica
from securefl.roles.terms import UPDATE, Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.training.trainer import scaled
from securefl.world import World

Summary = dict[str, Any]
FLOAT32_BYTES = 4


def summarise(run: RunFolder, study: Study, terms: Terms, parameters: int) -> Summary:
    """Accuracies are means over the last ``averaged_rounds`` rounds (epochs, for pooled and local)."""
    history = [line for line in run.history() if line["round"] > 0]
    timed = [line for line in history if line["seconds"] is not None]
    uploads = [line["upload_bytes"] for line in history if line["upload_bytes"] is not None]
    last = study.settings.averaged_rounds
    baselines = {name: _baseline(run, name) for name in ("plaintext", "float", "pooled", "local")}
    closing, info = run.closing(), run.info()
    model = closing.closing.model.hex() if closing else None
    upload = round(sum(uploads) / len(uploads)) if uploads else None
    plaintext = baselines["plaintext"]
    return {
        "name": study.settings.name,
        "accuracy": _late_mean([line["accuracy"] for line in history], last),
        "accuracy_plaintext": _late_mean(plaintext.get("accuracy", []), last),
        "accuracy_float": _late_mean(baselines["float"].get("accuracy", []), last),
        "accuracy_pooled": _late_mean(baselines["pooled"].get("accuracy", []), last),
        "accuracy_local_mean": _late_mean(baselines["local"].get("accuracy", []), last),
        "accuracy_last_round": history[-1]["accuracy"] if history else None,
        "averaged_rounds": last,
        "plaintext_identical": plaintext["model"] == model if plaintext else None,
        "upload_bytes_per_hospital_round": upload,
        "upload_ratio": round(upload / (FLOAT32_BYTES * parameters), 4) if upload else None,
        "aggregation_share": _share(timed),
        "seconds": round(sum(line["seconds"] for line in timed), 2),
        "rounds": len(history),
        "parties": len(terms.parties),
        "hospitals": len(terms.hospitals),
        "parameters": parameters,
        "width": terms.encoding(UPDATE).width,
        "model": model,
        "study": info["study"],
    }


def diagnosis(world: World, replica: Replica) -> Summary:
    """AUC and sensitivity of the final model on held-out records, over all hospitals and at each; tasks of two classes.

    Sensitivity is at a specificity of at least 90 %. Empty for other tasks, and outside a simulation.
    """
    if world.classes != 2 or world.test is None:
        return {}
    # Late: scikit-learn takes a second to import.
    from securefl.training.metrics import binary_metrics, scores

    world.layout.load(world.model, replica.state.model)

    def figures(records: Records) -> dict[str, Any]:
        seen = scaled(records, replica.statistics, world.study.settings)
        return asdict(binary_metrics(scores(world.model, seen), records.labels, records.patients))

    whole = figures(world.test)
    return {
        "auc": whole["auc"],
        "auc_error": whole["auc_error"],
        "sensitivity": whole["sensitivity"],
        "diagnosis": {"all": whole, **{h: figures(data.test) for h, data in world.data.items()}},
    }


def privacy(run: RunFolder, terms: Terms, size: int) -> Summary:
    """What was spent, by every number of colluding parties; empty for a study without privacy."""
    if terms.private is None:
        return {}
    from securefl.privacy import epsilon_table

    s, mechanism = terms.private.settings, terms.private.mechanism(size)
    attempts = sum(signed.outcome.context.attempt for signed in run.outcomes()[1:])
    table = epsilon_table(mechanism, attempts, s.delta, terms.private.refusal_delta)
    spent = {str(c): {"pld": e.pld, "rdp": e.rdp} for c, e in table}
    return {
        "privacy": {
            "unit": s.unit,
            "delta": s.delta,
            "attempts": attempts,
            "noise_multiplier": terms.private.multiplier,
            "colluding_parties": s.colluding_parties,
            "epsilon": spent,
        }
    }


def _baseline(run: RunFolder, name: str) -> dict[str, Any]:
    path = run.baselines / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _late_mean(values: list[float | None], last: int) -> float | None:
    known = [value for value in values[-last:] if value is not None]
    return round(sum(known) / len(known), 6) if known else None


def _share(timed: list[dict[str, Any]]) -> float | None:
    seconds = sum(line["seconds"] for line in timed)
    return round(sum(line["aggregation_seconds"] for line in timed) / seconds, 4) if seconds else None
