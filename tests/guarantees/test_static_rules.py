"""What can be seen without running anything: no pickle, no loading of code, secrets compared in constant time.

Ruff's security rules (`make check`) see most of it; here stands what they do not look for, and controls for it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(p for package in ("protocols", "securefl") for p in (ROOT / package).rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "pandas"}
UNPICKLERS |= {"multiprocessing"}  # its queues and pools
SAFE = {"torch": ("weights_only", True), "numpy": ("allow_pickle", False)}
"""The argument with which a library's ``load`` reads numbers only."""
SECRET = re.compile(r"(secret|passw|token|private|seed|nonce|coin|hmac|(^|_)key$)", re.IGNORECASE)

PUBLIC = {
    (
        "protocols/integrity.py",
        "commit_coin(coin, context, hospital) != commitments[hospital]",
    ): "a revealed coin",
    ("protocols/mesh_handshake.py", "self._heard.get(peer) != nonce"): "a session's public number",
    ("protocols/mesh_session.py", "header.target != self._nonce"): "a session's public number",
    ("protocols/mesh_session.py", "header.source == self._nonce"): "a session's public number",
    ("securefl/consortium.py", "signing.public != member.signing_key"): "public keys",
    ("securefl/data/imaging/table.py", "patient_key(other.patient) == patient_key(entry.patient)"): (
        "a patient's name in a hospital's own table"
    ),
    ("securefl/roles/pledges.py", "c.coin == made.coin"): "a revealed coin, and the hospital's own",
    (
        "securefl/deploy/authority.py",
        "_load_key(private_key).public_key() == certificate.public_key()",
    ): "public keys",
}
"""Comparisons of what is named like a secret and is none, or none any more: whoever measures them learns nothing."""


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def meanings(tree: ast.Module) -> dict[str, str]:
    """What imported names stand for, wherever in a file they are imported: ``th`` for ``torch``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                found[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """A dotted name in full; empty if it is none, or none that was imported."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, names)
        return before and f"{before}.{node.attr}"
    return names.get(node.id, "") if isinstance(node, ast.Name) else ""


def loads(tree: ast.Module) -> Iterator[str]:
    """What may run what it reads: torch's and NumPy's load, but for calls with the argument that forbids it."""
    names = meanings(tree)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        whose, _, what = dotted(node, names).partition(".")
        if whose not in SAFE or what.rpartition(".")[2] != "load":
            continue
        call = calls.get(id(node))
        given = {k.arg: getattr(k.value, "value", None) for k in call.keywords} if call else {}
        argument, safe = SAFE[whose]
        if given.get(argument) is not safe:
            yield ast.unparse(call or node)


def terminal(node: ast.expr) -> str:
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def comparisons(tree: ast.Module) -> Iterator[str]:
    """``==`` and ``!=`` on something that is named like a secret, lengths and constants left out."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare) or not all(isinstance(o, ast.Eq | ast.NotEq) for o in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) or terminal(side) == "len" for side in sides):
            continue
        if any(SECRET.search(terminal(side)) and not terminal(side).isupper() for side in sides):
            yield ast.unparse(node)


def test_nothing_that_ships_can_unpickle():
    assert len(SHIPPED) > 150
    assert not [(str(p), names) for p in SHIPPED if (names := imported(parsed(p)) & UNPICKLERS)]
    assert not [(str(p), call) for p in SHIPPED for call in loads(parsed(p))]


def test_control_pickle_is_seen():
    assert imported(ast.parse("import os\nfrom pickle import loads\n")) & UNPICKLERS


@pytest.mark.parametrize(
    ("imports", "text"),
    [
        ("import torch", "torch.load(f)"),
        ("import torch", "torch.load(f, weights_only=False)"),
        ("import torch", "torch.load(f, **options)"),
        ("import torch as th", "th.load(f)"),
        ("import torch.nn", "torch.load(f)"),
        ("import torch.serialization as s", "s.load(f)"),
        ("from torch import serialization", "serialization.load(f)"),
        ("from torch import load", "load(f)"),
        ("from torch import load as read", "read(f)"),
        ("from torch import hub", "hub.load(f)"),
        ("def g():\n    from torch import load", "load(f)"),
        ("import torch", "map(torch.load, files)"),
        ("import numpy as np", "np.load(f)"),
        ("import numpy as n", "n.load(f, allow_pickle=True)"),
        ("import numpy", "numpy.load(f, allow_pickle=allowed)"),
        ("from numpy import load", "load(f)"),
    ],
)
def test_control_such_a_load_is_seen(imports, text):
    found = list(loads(ast.parse(f"{imports}\n{text}")))
    assert found == ["torch.load" if text.startswith("map") else text]


@pytest.mark.parametrize(
    "text",
    [
        "import torch as th\nth.load(f, weights_only=True)",
        "from torch import load\nload(f, weights_only=True)",
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import json\njson.load(f)",
        "from securefl.consortium import load\nload(f)",
        "import torch\nlayout.load(torch)",
    ],
)
def test_control_other_loads_are_not(text):
    assert not list(loads(ast.parse(text)))


def test_secrets_are_not_compared_with_an_operator_that_stops_early():
    found = {
        (p.relative_to(ROOT).as_posix(), comparison)
        for p in SHIPPED
        if "audit" not in p.parts
        for comparison in comparisons(parsed(p))
    }
    assert found - set(PUBLIC) == set(), "compare secrets with hmac.compare_digest, or say in PUBLIC why not"


def test_every_reason_is_still_needed():
    texts = {file: list(comparisons(parsed(ROOT / file))) for file, _ in PUBLIC}
    unneeded = {key for key in PUBLIC if key[1] not in texts[key[0]]}
    assert unneeded == set()


def test_control_such_a_comparison_is_seen():
    for text in (
        "token == given",
        "self._secret != x",
        "key == other.key",
        "private_bytes() == y",
        "f(x) == a.seed",
    ):
        assert list(comparisons(ast.parse(text))) == [text]
    for text in ("len(seed) != 32", "kind == SEED", "name == 'key'", "a.name == b.name"):
        assert not list(comparisons(ast.parse(text)))


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import pickle\n\nX = pickle.loads(b'')\n", "S301"),
        ("def f(x):\n    assert x\n", "S101"),
        ("import subprocess\n\nsubprocess.run('ls', shell=True)\n", "S602"),
        ("X = eval('1')\n", "S307"),
        ("import random\n\nX = random.random()\n", "S311"),
        ("import hashlib\n\nX = hashlib.md5(b'').digest()\n", "S324"),
        ("from torch import *\n", "F403"),  # whose names nobody would know
    ],
)
def test_control_ruffs_rules_are_on_for_what_ships(code, rule):
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--quiet",
        "--output-format",
        "concise",
        "--stdin-filename",
    ]
    done = subprocess.run(
        [*command, "protocols/new.py", "-"], input=code, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert rule in done.stdout
