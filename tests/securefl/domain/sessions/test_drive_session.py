"""The same session with Syft's Google Drive connection as the carrier, against Syft's own model of Drive."""

from __future__ import annotations

import shutil

from securefl import domain
from securefl.domain.drive import DriveCarrier
from tests.securefl.domain.sessions.conftest import CANARY

STEWARD, RESEARCHER = "steward@north.example", "me@lab.example"


def test_a_dataset_is_published_and_seen_over_drive(members, tmp_path):
    from syft.sync.connections.drive import mock_drive_service

    shutil.copytree(members, tmp_path / "all")
    for kind, row in (("private", CANARY), ("mock", "50,made up,0")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "records.csv").write_text(f"age,note,disease\n{row}\n")
    drives = mock_drive_service.pair_with_mock_service(STEWARD, RESEARCHER)
    carriers = [
        DriveCarrier(drive, [peer]) for drive, peer in zip(drives, (RESEARCHER, STEWARD), strict=True)
    ]
    with (
        domain.owner(STEWARD, tmp_path / "north", carriers[0], tmp_path / "all" / "north") as north,
        domain.researcher(RESEARCHER, tmp_path / "me", carriers[1]) as me,
    ):
        north.accept(RESEARCHER, me.fingerprint)
        me.accept(STEWARD, north.fingerprint)
        north.publish("heart", private=tmp_path / "private", mock=tmp_path / "mock", description="Patients")
        (dataset,) = me.datasets()
        assert (dataset.name, dataset.owner) == ("heart", STEWARD)
        assert [path.read_text() for path in dataset.mock_files] == ["age,note,disease\n50,made up,0\n"]
