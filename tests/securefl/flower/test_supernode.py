"""What Flower ships has no logic, and a SuperNode of ours runs nothing else."""

from __future__ import annotations

import ast
import hashlib
import io
import logging
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk, build_fab_from_files
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate import NodeStateFactory

from securefl.flower.bundle import app_files
from securefl.flower.supernode import OwnAppFactory, own_app


def _fab(content: bytes) -> Fab:
    return Fab(hashlib.sha256(content).hexdigest(), content, {})


def _changed() -> bytes:
    files = app_files()
    files["securefl_client.py"] += b"print('another line')\n"
    return build_fab_from_files(files)[0]


def test_the_app_is_two_imports_and_no_logic() -> None:
    with zipfile.ZipFile(io.BytesIO(own_app())) as bundle:
        code = [name for name in bundle.namelist() if name.endswith(".py")]
        assert sorted(code) == ["securefl_client.py", "securefl_server.py"]
        for name in code:
            imported, named = ast.parse(bundle.read(name)).body
            assert isinstance(imported, ast.ImportFrom)
            assert imported.module == "securefl.flower"
            assert isinstance(named, ast.Assign)
            assert isinstance(named.value, ast.Attribute)


def test_the_bundle_is_the_one_that_flwr_run_sends(tmp_path: Path) -> None:
    for name, data in app_files().items():
        (tmp_path / name).write_bytes(data)
    assert build_fab_from_disk(tmp_path) == own_app()


def test_our_app_is_stored_and_run() -> None:
    state = OwnAppFactory(ObjectStoreFactory()).state()
    fab = _fab(own_app())
    state.store_fab(fab)
    assert state.get_fab(fab.hash_str) is not None
    assert state.create_task(task_type=TaskType.CLIENT_APP, run_id=1, fab_hash=fab.hash_str) is not None


def test_an_app_with_one_more_line_is_neither_stored_nor_run(caplog: pytest.LogCaptureFixture) -> None:
    state = OwnAppFactory(ObjectStoreFactory()).state()
    fab = _fab(_changed())
    with caplog.at_level(logging.ERROR):
        state.store_fab(fab)
    assert "not the installed securefl's" in caplog.text
    assert state.get_fab(fab.hash_str) is None
    assert state.create_task(task_type=TaskType.CLIENT_APP, run_id=1, fab_hash=fab.hash_str) is None
    assert state.create_task(task_type=TaskType.CLIENT_APP, run_id=1) is None


def test_an_app_that_claims_our_digest_is_not_stored() -> None:
    state = OwnAppFactory(ObjectStoreFactory()).state()
    ours = _fab(own_app()).hash_str
    state.store_fab(Fab(ours, _changed(), {}))
    assert state.get_fab(ours) is None


def test_flowers_own_state_runs_any_app() -> None:
    """The control: without ours, the same app goes through."""
    state = NodeStateFactory(ObjectStoreFactory()).state()
    fab = _fab(_changed())
    state.store_fab(fab)
    assert state.get_fab(fab.hash_str) is not None
    assert state.create_task(task_type=TaskType.CLIENT_APP, run_id=1, fab_hash=fab.hash_str) is not None
