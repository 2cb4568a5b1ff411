"""The figures of a run, computed from what it left on disk."""

from __future__ import annotations

import json
from typing import Any

from securefl.roles.terms import UPDATE, Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

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
