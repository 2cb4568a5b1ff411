"""``securefl domain``: the whole of a decision from the command line, and one sentence for each mistake."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from securefl import deploy
from securefl.cli.domain import app
from securefl.domain.errors import RelayError
from securefl.domain.parcel import Piece
from securefl.domain.runs import Runs
from securefl.domain.settings import HomeSettings
from securefl.errors import SecureFLError

STUDY = Path(__file__).resolve().parents[3] / "examples" / "hospital_consortium" / "study"
STEWARDS = ["steward@north.example", "steward@south.example"]


def said(*words: object) -> str:
    """What a command prints; its error is raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Path:
    """Two stewards, a researcher and an operator who know one another, and a proposal to both."""
    root = tmp_path_factory.mktemp("domain")
    mesh = {"uni": "127.0.0.1:17001", "registry": "127.0.0.1:17002"}
    deploy.init(root / "all", ["north", "south"], ["uni", "registry"], "127.0.0.1:18000", mesh)
    (root / "relay").mkdir()
    shutil.copytree(STUDY, root / "study")
    shutil.copy(root / "all" / "public" / "consortium.toml", root / "study")
    people = {
        STEWARDS[0]: ("owner", "north"), STEWARDS[1]: ("owner", "south"), "me@lab.example": ("researcher", None),
        "ops@hub.example": ("operator", "coordinator"),
    }  # fmt: skip
    prints = {}
    for email, (part, folder) in people.items():
        own = ["--folder", root / "all" / folder] if folder else []
        out = said("init", email, "--part", part, "--relay", root / "relay", "--home", root / email, *own)
        prints[email] = re.search(r"telephone: ([0-9a-f ]+)\n", out)[1]
    for email in people:
        for peer, fingerprint in prints.items():
            if peer != email:
                assert "is accepted" in said("accept", peer, fingerprint, "--home", root / email)
    for steward in STEWARDS:
        for kind, text in (("private", "age\n67\n"), ("mock", "age\n1\n")):
            (root / f"{steward}-{kind}").mkdir()
            (root / f"{steward}-{kind}" / "records.csv").write_text(text)
        said(
            "publish", "heart", "--private", root / f"{steward}-private", "--mock", root / f"{steward}-mock",
            "--description", "Patients", "--home", root / steward,
        )  # fmt: skip
    return root


def propose(stage: Path) -> str:
    words = [word for steward in STEWARDS for word in ("--to", steward)]
    out = said(
        "propose", stage / "study", *words, "--purpose", "To see", "--operator", "ops@hub.example",
        "--home", stage / "me@lab.example",
    )  # fmt: skip
    return re.search(r"Proposed as (\S+)\.", out)[1]


def test_show_names_everybody(stage):
    shown = said("show", "--home", stage / STEWARDS[0])
    assert shown.startswith(STEWARDS[0])
    assert "me@lab.example" in shown
    assert "ops@hub.example" in shown


def test_a_proposal_from_the_command_line_to_both_decisions_and_the_log(stage):
    name, north, south = propose(stage), stage / STEWARDS[0], stage / STEWARDS[1]
    assert "heart" in said("datasets", "--home", stage / "me@lab.example")
    assert "pending" in said("requests", "--home", north)
    review = said("review", name, "--home", north)
    assert "minimum_hospitals = 2" in review
    assert "| To see".replace("| ", "purpose      ") in review
    assert "is approved" in said("approve", name, "--reason", "IRB 1", "--days", 5, "--home", north)
    assert "is denied" in said("deny", name, "--reason", "Not now.", "--home", south)
    status = said("status", name, "--home", stage / "me@lab.example")
    assert "IRB 1" in status
    assert "Not now." in status
    assert name in said("status", "--home", stage / "me@lab.example")
    with pytest.raises(SecureFLError, match="cannot be launched"):
        said("launch", name, "--home", stage / "me@lab.example")
    assert "is revoked" in said("revoke", name, "--reason", "Consent gone.", "--keep-peer", "--home", north)
    assert "Consent gone." in said("status", name, "--home", stage / "me@lab.example")

    log = said("log", "--verify", "--home", north)
    for action in ("peer-accepted", "published", "approved", "revoked"):
        assert action in log
    assert re.search(r"All \d+ lines are whole, in order and signed by steward@north.example\.", log)


@pytest.fixture
def copy(stage, tmp_path) -> Path:
    """The same people elsewhere, for what cannot be undone."""
    there = shutil.copytree(stage, tmp_path / "copy")
    for settings in there.glob("*/domain.toml"):
        settings.write_text(settings.read_text().replace(str(stage), str(there)))
    return there


def test_with_the_share_away_a_steward_sees_the_log_revokes_and_removes(copy):
    name, north = propose(copy), copy / STEWARDS[0]
    said("approve", name, "--reason", "IRB 1", "--home", north)
    (copy / "relay").rename(copy / "away")
    assert "me@lab.example" in said("show", "--home", north)
    assert "approved" in said("log", "--home", north)
    assert f"{name} is revoked" in said("revoke", name, "--reason", "Gone.", "--keep-peer", "--home", north)
    assert "ops@hub.example is removed" in said("remove", "ops@hub.example", "--reason", "x", "--home", north)
    assert "ops@hub.example" not in said("show", "--home", north)
    log = said("log", "--verify", "--home", north)
    assert [word for word in ("revoked", "peer-removed", "are whole") if word not in log] == []
    with pytest.raises(RelayError, match="is not there"):
        said("requests", "--home", north)
    (copy / "away").rename(copy / "relay")
    said("requests", "--home", north)
    assert "Gone." in said("status", name, "--home", copy / "me@lab.example")


def test_who_is_removed_is_known_no_more(copy):
    north, me = copy / STEWARDS[0], copy / "me@lab.example"
    name = propose(copy)
    said("approve", name, "--reason", "IRB 1", "--home", north)
    assert "me@lab.example is removed" in said(
        "remove", "me@lab.example", "--reason", "Left.", "--home", north
    )
    assert "me@lab.example" not in said("show", "--home", north)
    assert "Left." in said("status", name, "--home", me)
    with pytest.raises(SecureFLError, match="was removed here"):
        said("remove", "me@lab.example", "--reason", "twice", "--home", north)


def test_the_log_of_a_run_is_read_by_its_researcher_once_it_is_shared(copy):
    north, me = copy / STEWARDS[0], copy / "me@lab.example"
    name = propose(copy)
    said("approve", name, "--reason", "IRB 1", "--home", north)
    with HomeSettings.load(north).open(north) as owner:
        permit = owner.request(name).permit
        run = owner.run_folder(permit, Runs(owner.permit_folder(permit.permit.number)).begin(1))
    run.mkdir(parents=True)
    (run / "log").write_text("epoch 1\x1b[2J\n")
    assert said("logs", name, "--home", me) == ""
    assert f"The log of {name} is shared" in said("share-log", name, "--reason", "Read.", "--home", north)
    assert said("logs", name, "--home", me) == "== north ==\nepoch 1\ufffd[2J\n\n"


def test_a_finished_runs_model_is_withheld_for_good(copy):
    north, ops = copy / STEWARDS[0], copy / "ops@hub.example"
    name = propose(copy)
    said("approve", name, "--reason", "IRB 1", "--home", north)
    with HomeSettings.load(ops).open(ops) as operator, HomeSettings.load(north).open(north) as owner:
        piece = Piece(
            proposal=owner.request(name).proposal.digest(), name="model.safetensors", offset=0, data=b"model",
            bytes_in_all=5, last=True,
        )  # fmt: skip
        operator.mail.send(owner.email, Piece.topic, piece.to_bytes())
        owner.serving().step()
    assert "waiting" in said("releases", "--home", north)
    assert f"The model of {name} is withheld" in said("withhold", name, "--reason", "No.", "--home", north)
    assert "withheld" in said("releases", "--home", north)
    with pytest.raises(SecureFLError, match="was withheld already"):
        said("release", name, "--reason", "after all", "--home", north)
    with pytest.raises(SecureFLError, match="is not released yet"):
        said("result", name, "--out", copy / "out", "--home", copy / "me@lab.example")


def test_a_dataset_is_withdrawn(copy):
    north = copy / STEWARDS[0]
    assert "heart is withdrawn" in said("withdraw", "heart", "--reason", "Moved.", "--home", north)
    assert "heart" not in said("datasets", "--home", north)
    assert "withdrawn" in said("log", "--home", north)


@pytest.mark.parametrize("line", [0, 2, -1])
@pytest.mark.parametrize("attack", ["remove", "change"])
def test_a_log_with_a_removed_or_changed_line_fails(stage, tmp_path, line, attack):
    home = shutil.copytree(stage / STEWARDS[1], tmp_path / "home")
    assert "are whole" in said("log", "--verify", "--home", home)
    lines = (home / "log.jsonl").read_text().splitlines(keepends=True)
    if attack == "remove":
        del lines[line]
    else:
        lines[line] = (
            lines[line].replace("20", "21", 1) if "20" in lines[line] else lines[line].replace("1", "2", 1)
        )
    (home / "log.jsonl").write_text("".join(lines))
    with pytest.raises(SecureFLError):
        said("log", "--verify", "--home", home)


TO = [word for steward in STEWARDS for word in ("--to", steward)]
OPERATOR = ["--operator", "ops@hub.example", "--home", "{me}"]


@pytest.fixture(scope="module")
def pending(stage) -> str:
    """The name of a proposal that nobody has decided on."""
    return propose(stage)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show"], "is no home: make one"),
        (["requests", "--home", "{me}"], "is not an owner's home"),
        (
            ["propose", "{study}", "--to", "x@y.example", "--purpose", "p", "--operator", "o@h.ex", "--home", "{me}"],
            "not known here",
        ),
        (["review", "no-such", "--home", "{north}"], "No proposal no-such"),
        (["accept", "me@lab.example", "0000", "--home", "{north}"], "not that one"),
        (["accept", "who@lab.example", "0000", "--home", "{north}"], "There is no card of who@lab.example"),
        (["accept", "../evil", "0000", "--home", "{north}"], "cannot be a name here"),
        (["publish", "../x", "--private", "{me}", "--mock", "{study}", "--home", "{north}"], "be a dataset's name"),
        (["release", "no-such", "--reason", "x", "--home", "{north}"], "No finished run of no-such"),
        (["serve", "--home", "{me}"], "serves nothing"),
        (["withdraw", "no-such", "--reason", "x", "--home", "{north}"], "no-such is not published here"),
        (["share-log", "{pending}", "--reason", "x", "--home", "{north}"], "has no log: nothing of it has run here"),
        (["revoke", "{pending}", "--reason", "x", "--home", "{north}"], "is not decided on: there is no approval"),
        (["approve", "{pending}", "--reason", "x" * 1001, "--home", "{north}"], "Reason does not fit into a permit"),
        (["approve", "{pending}", "--reason", "x", "--epsilon", "-1", "--home", "{north}"], "has no [privacy]"),
        (["propose", "{study}", *TO, "--purpose", "", *OPERATOR], "Purpose does not fit into a proposal"),
        (["propose", "{study}", *TO, "--purpose", "x" * 501, *OPERATOR], "Purpose does not fit into a proposal"),
        (["propose", "{study}", *TO, "--purpose", "two\nlines", *OPERATOR], "Purpose does not fit into a proposal"),
        (["propose", "{named}", *TO, "--purpose", "x", *OPERATOR], "This cannot be a file's name in a proposal"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(stage, pending, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    named = shutil.copytree(stage / "study", tmp_path / "named")
    (named / "two words.py").write_text("x = 1\n")
    places = {
        "me": stage / "me@lab.example", "north": stage / STEWARDS[0], "study": stage / "study",
        "pending": pending, "named": named,
    }  # fmt: skip
    with pytest.raises(SecureFLError) as error:
        said(*(word.format(**places) for word in words))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
