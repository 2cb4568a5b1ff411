"""A hospital whose every message is a process of its own: the same model, and torch only where it trains."""

from __future__ import annotations

from securefl.engines.hospital_node import HospitalNode, HospitalPlaces
from securefl.roles.messages import read_message
from tests.securefl.conftest import InOneProcess

STUDY = """
name = "Late"
seed = 5
[simulation]
baselines = []
exhibits = false
[consortium]
hospitals = ["b", "charite", "st-anna", "va"]
parties = 2
[committee]
collusion_bound = 1
[data]
source = "fed-heart"
standardise = "features"
[model]
kind = "logistic"
[training]
rounds = 2
learning_rate = 0.1
[server]
optimizer = "fedavgm"
"""


class Forgetful:
    """Answers each message with a node that was just started; notes for which it made a trainer."""

    def __init__(self, run, name):
        self._name, self.made = name, []
        self._places = HospitalPlaces(
            study=run.path / "study", consortium=run.consortium_file, keys=run.keys, home=run.homes,
            socket=run.path / "socket",
        )  # fmt: skip

    def answer(self, data):
        node = HospitalNode(self._places)
        make = node._make_trainer
        kind = read_message(data).kind
        node._make_trainer = lambda hospital: self.made.append(kind) or make(hospital)
        return node.handle(self._name, data).messages


def test_only_an_announcement_needs_records_and_model(tmp_path, play, monkeypatch):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(STUDY)
    expected = play(tmp_path / "study", tmp_path / "as-ever").model_file.read_bytes()

    hosts, begin = [], InOneProcess.__init__

    def forgetful(engine, script, run, *rest):
        begin(engine, script, run, *rest)
        engine._hospitals["va"] = Forgetful(run, "va")
        hosts.append(engine._hospitals["va"])

    monkeypatch.setattr(InOneProcess, "__init__", forgetful)
    assert play(tmp_path / "study", tmp_path / "late").model_file.read_bytes() == expected
    # Before the first outcome there is no memory, and the model's first weights are needed.
    assert [kind for kind in hosts[0].made if kind != "announcement"] == ["settled"]
    assert hosts[0].made.count("announcement") == 3
