"""Mutants that compute with what nobody signed: a file beside a study, which Python would run in place of its own."""

from __future__ import annotations

import json
import py_compile
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.verify import verify
from securefl.data.user_module import alone
from securefl.run_folder import RUN_FILE, RunFolder

MODEL = """\
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from layers import net


def build(shape, classes):
    return net(shape, classes)
"""
LAYERS = """\
from torch import nn


def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes))
"""
CODE = {"model.py": MODEL, "layers.py": LAYERS}
"""A study's own code in two files, the one imported by the other."""
PLANTED = """\
from torch import nn


class Net(nn.Sequential):
    def state_dict(self, *, keep_vars=False, **others):
        found = super().state_dict(keep_vars=keep_vars, **others)
        return found if keep_vars else {name: tensor + 1 for name, tensor in found.items()}


def net(shape, classes):
    return Net(nn.Flatten(), nn.Linear(shape[0], classes))
"""
"""The same model, which shows other weights than it has."""
Verifier = Callable[[Stage, RunFolder], bool]


def write_run(stage: Stage, run: RunFolder) -> None:
    """Write down a finished study as its coordinator hands it over."""
    from safetensors.torch import save

    from securefl.world import World

    shutil.copytree(stage.study.folder, run.path / "study")
    shutil.copytree(stage.store("coordinator").path(""), run.receipts)
    info = {"study": stage.terms.study.hex(), "securefl": version("securefl")}
    (run.path / RUN_FILE).write_text(json.dumps(info))
    world, state = World.of(stage.study, stage.terms), stage.replica.state
    world.layout.load(world.model, state.model)
    tensors = {name: tensor.contiguous().clone() for name, tensor in world.model.state_dict().items()}
    run.model_file.write_bytes(save(tensors, {"round": str(state.round)}))


def plant(run: RunFolder) -> None:
    """Change the model of a run, and lay bytecode beside the study's code that shows it as the true one."""
    from safetensors.torch import load, save

    study = run.path / "study"
    bytecode = study / "__pycache__" / f"layers.{sys.implementation.cache_tag}.pyc"
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        source = Path(name) / "layers.py"
        source.write_text(PLANTED)
        py_compile.compile(
            str(source), str(bytecode), doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip
    data = run.model_file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    run.model_file.write_bytes(
        save({name: tensor + 1 for name, tensor in load(data).items()}, header["__metadata__"])
    )


def where_it_lies(stage: Stage, run: RunFolder) -> bool:
    """The naive verifier: the study's files are the signed ones, so Python may run them where they lie."""
    from safetensors.torch import load

    from securefl.models import Layout

    data = stage.data[next(iter(stage.data))]
    with alone():
        try:
            build = runpy.run_path(str(run.path / "study" / "model.py"))["build"]
            model = build(data.train.shape, data.classes)
        finally:
            sys.modules.pop("layers", None)
    Layout.of(model).load(model, stage.replica.state.model)
    given, expected = load(run.model_file.read_bytes()), model.state_dict()
    return given.keys() == expected.keys() and all(given[name].equal(expected[name]) for name in given)


def shipped(stage: Stage, run: RunFolder) -> bool:
    """``securefl verify`` under the members' pinned keys."""
    return verify(run.path, stage.people.consortium).holds


def _believed(verifier: Verifier) -> tuple[bool, bool]:
    """Whether a verifier believes a changed model that comes with planted bytecode, and whether the true one."""
    with staged(code=CODE) as stage, tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        stage.play()
        run = RunFolder(Path(name) / "run")
        write_run(stage, run)
        honest = verifier(stage, run)
        plant(run)
        return verifier(stage, run), honest


def _planted_breaks() -> Finding:
    believed, honest = _believed(where_it_lies)
    said = f"A changed model is {'believed' if believed else 'refused'}: bytecode beside the code shows other weights."
    return Finding(believed and honest, said, {"believed": int(believed)})


def _planted_caught() -> Finding:
    believed, honest = _believed(shipped)
    said = (
        f"The same model is {'believed' if believed else 'refused'}; the true one "
        f"{'is believed' if honest else 'is not'}."
    )
    return Finding(not believed and honest, said, {"believed": int(believed)})


MUTANTS = (
    Mutant(
        "built-where-it-lies",
        "receipts-verify-offline",
        "The study's model is built in the received folder, of all that lies there.",
        _planted_breaks,
        _planted_caught,
    ),
)
