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


def loads(tree: ast.Module) -> Iterator[str]:
    """Calls that may run what they read: torch's and NumPy's load without the argument that forbids it."""
    for node in ast.walk(tree):
        if (
            not isinstance(node, ast.Call)
            or not isinstance(node.func, ast.Attribute)
            or node.func.attr != "load"
        ):
            continue
        whose = ast.unparse(node.func.value)
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        bad_torch = whose == "torch" and given.get("weights_only") is not True
        bad_numpy = whose in ("np", "numpy") and given.get("allow_pickle") is not False
        if bad_torch or bad_numpy:
            yield ast.unparse(node)


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


def test_control_pickle_and_unsafe_loads_are_seen():
    assert imported(ast.parse("import os\nfrom pickle import loads\n")) & UNPICKLERS
    assert list(loads(ast.parse("torch.load(f)\nnp.load(f)\ntorch.load(f, weights_only=False)"))) == [
        "torch.load(f)",
        "np.load(f)",
        "torch.load(f, weights_only=False)",
    ]
    assert not list(loads(ast.parse("torch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)")))


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
    assert unneeded <= {key for key in PUBLIC if key[0].startswith("securefl/deploy")}


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
    ],
)
def test_control_ruffs_security_rules_are_on_for_what_ships(code, rule):
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
