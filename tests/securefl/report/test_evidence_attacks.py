"""Results of attacks on the page: any rows are shown, pictures only of records that anyone may see."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from securefl.report.evidence import gather
from securefl.report.evidence_attacks import ROWS, Attack, attacks, shown
from securefl.report.evidence_page import write_evidence
from securefl.run_folder import RunFolder


def of(run: RunFolder, name: str) -> Attack:
    return next(attack for attack in attacks(run, gather(run)) if attack.id == name)


def leave(run: RunFolder, name: str, content: object) -> Path:
    folder = run.path / "attacks"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


RESULTS = {
    "study": "Digits",
    "private": False,
    "skipped": {"ratio": "No <first> layer."},
    "prior_each": [0.1, 0.2, 0.3, 0.4],
    "results": [
        {"view": "plaintext", "ssim": 0.93124, "interval": [0.8, 0.95], "succeeded": True},
        {"view": "sum", "ssim": 0.11, "interval": [-0.1, 0.02], "no_better_than_prior": True, "note": None},
    ],
}


def test_what_was_not_run_says_how_to_run_it(finished: RunFolder) -> None:
    for attack in attacks(finished, gather(finished)):
        assert (attack.state, attack.sentence) == ("not run", "Not run: securefl attack RUN")


def test_rows_and_values_are_shown_as_they_stand(finished: RunFolder) -> None:
    leave(finished, "inversion", RESULTS)
    attack = of(finished, "inversion")
    assert attack.state == "run"
    assert dict(attack.facts) == {"study": "Digits", "private": "no", "prior each": "4 values"}
    skipped, results = attack.tables
    assert (skipped.name, skipped.rows) == ("skipped", [["ratio", "No <first> layer."]])
    assert results.columns == ["view", "ssim", "interval", "succeeded", "no better than prior", "note"]
    assert results.rows[0] == ["plaintext", "0.9312", "0.8 to 0.95", "yes", "", ""]
    assert results.rows[1] == ["sum", "0.11", "-0.1 to 0.02", "", "yes", "–"]
    html, data = write_evidence(finished)
    assert "<td>0.9312</td>" in html.read_text()
    assert "No &lt;first&gt; layer." in html.read_text()
    assert json.loads(data.read_text())["attacks"][0]["results"] == RESULTS


def test_long_tables_are_cut_and_say_so() -> None:
    _, (table,) = shown({"rows": [{"x": i} for i in range(ROWS + 7)]})
    assert (len(table.rows), table.left_out) == (ROWS, 7)
    _, (table,) = shown({"by": {"ours": {"auc": 0.5}, "broken": {"auc": 0.9}}})
    assert (table.columns, table.rows) == (["", "auc"], [["ours", "0.5"], ["broken", "0.9"]])


def test_notes_are_read_and_intervals_stand_beside_their_value() -> None:
    auc = {"value": 0.5, "low": 0.4, "high": 0.62}
    facts, (table,) = shown({"notes": ["One.", "Two.", "Three.", "Four."], "attacks": {"lira": {"auc": auc}}})
    assert facts == [("notes", "One. Two. Three. Four.")]
    assert table.rows == [["lira", "0.5 (0.4 to 0.62)"]]


def test_numbers_that_are_none_reach_no_json(finished: RunFolder) -> None:
    leave(finished, "canaries", '{"epsilon": Infinity, "rows": [{"x": NaN}]}')
    text = write_evidence(finished)[1].read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    assert json.loads(text)["attacks"][2]["results"] == {"epsilon": None, "rows": [{"x": None}]}


@pytest.mark.parametrize("content", ["nonsense", '"a string"', "3"])
def test_a_file_that_is_no_result_is_named(finished: RunFolder, content: str) -> None:
    leave(finished, "membership", content)
    assert of(finished, "membership").state == "unreadable"
    assert "cannot be read" in write_evidence(finished)[0].read_text()


def picture(folder: Path) -> bytes:
    path = folder / "inversion.png"
    matplotlib.image.imsave(path, np.eye(4))
    return path.read_bytes()


def test_pictures_of_public_records_are_embedded(finished: RunFolder) -> None:
    content = picture(leave(finished, "inversion", RESULTS))
    (found,) = of(finished, "inversion").pictures
    assert found.data.startswith("data:image/png;base64,iVBOR")
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.data in write_evidence(finished)[0].read_text()
    (finished.path / "attacks" / "inversion.png").write_bytes(b"<script>")
    assert of(finished, "inversion").pictures[0].data == ""


def test_synthetic_lesions_are_called_that(finished: RunFolder) -> None:
    picture(leave(finished, "inversion", RESULTS))
    study = finished.path / "study" / "study.toml"
    study.write_text(study.read_text().replace('source = "mnist-5k"', 'source = "mri-lesions"'))
    (found,) = of(finished, "inversion").pictures
    assert found.data
    assert "synthetic lesions" in found.note
    assert found.note in write_evidence(finished)[0].read_text()


def test_pictures_of_hospitals_own_records_are_not(finished: RunFolder) -> None:
    picture(leave(finished, "inversion", RESULTS))
    study = finished.path / "study" / "study.toml"
    text = study.read_text()
    study.write_text(text.replace('source = "mnist-5k"', 'source = "npz"\nroot = "{hospital}"'))
    (found,) = of(finished, "inversion").pictures
    assert found.data == ""
    assert "may show patients' records" in found.why


def test_results_in_the_folder_of_a_real_study_are_not_taken_up(finished: RunFolder) -> None:
    picture(leave(finished, "inversion", RESULTS))
    study = finished.path / "study" / "study.toml"
    text = study.read_text().replace("[simulation]\nbaselines = []\n", "")
    text = text.replace('hospitals = ["east", "north", "south", "west"]\nparties = 3', 'file = "c.toml"')
    study.write_text(text)
    (finished.path / "study" / "c.toml").write_bytes(finished.consortium_file.read_bytes())
    evidence = gather(finished)
    assert evidence.study is not None
    assert not evidence.simulation
    found = attacks(finished, evidence)
    assert {attack.state for attack in found} == {"not run"}
    assert not any(attack.pictures for attack in found)
