"""A member's ClientApp: it takes its own mail only, and a party's carries bytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from securefl.engines.flower import mail
from securefl.engines.link import LinkServer, Reply
from securefl.errors import ConsortiumError
from securefl.flower.client_app import NODE_CONFIG, app, joined
from securefl.member import Places


@pytest.fixture(autouse=True)
def _in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: a socket's path has at most 100 characters."""
    with tempfile.TemporaryDirectory(prefix="fl-") as name:
        yield Path(name)


def _context(folder: Path, role: str = "party") -> Context:
    Places(name="north", role=role, socket=Path("s.sock")).save(folder / "member.toml")  # type: ignore[arg-type]
    config = {NODE_CONFIG: str(folder / "member.toml")}
    return Context(run_id=1, node_id=1, node_config=config, state=RecordDict(), run_config={})


def _mail(messages: list[bytes], member: str = "north", kind: str = mail.MAIL, ttl: float = 5.0) -> Message:
    message = Message(mail.packed(messages, member), 1, kind, ttl=ttl)
    message.metadata.__dict__["_message_id"] = "one"
    return message


def test_it_says_whose_it_is(folder: Path) -> None:
    reply = app(_mail([], kind=mail.HELLO), _context(folder))
    assert mail.addressee(reply.content) == "north"


def test_a_partys_only_carries_bytes(folder: Path) -> None:
    taken: list[tuple[str, bytes]] = []

    def party(target: str, message: bytes) -> Reply:
        taken.append((target, message))
        return Reply([message[::-1], b"and more"], 0.25)

    context = _context(folder)
    server = LinkServer(folder / "s.sock", party)
    server.start()
    try:
        reply = app(_mail([b"one", b"two"]), context)
    finally:
        server.close()
    assert taken == [("north", b"one"), ("north", b"two")]
    answers = mail.unpacked_reply(reply.content)
    assert answers.messages == [b"eno", b"and more", b"owt", b"and more"]
    assert answers.training_seconds == 0.5


def test_another_members_mail_is_refused_without_a_word_of_why(folder: Path) -> None:
    reply = app(_mail([b"one"], member="south"), _context(folder))
    assert mail.refusal(reply.content) == "see the log of its SuperNode."


def test_a_hospital_without_a_study_refuses(folder: Path) -> None:
    reply = app(_mail([b"one"]), _context(folder, role="hospital"))
    assert mail.refusal(reply.content) == "see the log of its SuperNode."


def test_a_supernode_without_a_member_file_is_told_how(folder: Path) -> None:
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    with pytest.raises(ConsortiumError, match="securefl supernode"):
        app(_mail([], kind=mail.HELLO), context)


def test_times_are_added() -> None:
    assert joined([Reply([b"a"], 1.5), Reply([b"b"], 0.25)]) == Reply([b"a", b"b"], 1.75)
    assert joined([]) == Reply([], 0.0)


def test_a_partys_clientapp_starts_without_torch() -> None:
    code = "import sys, securefl.flower.client_app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
