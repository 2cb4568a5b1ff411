"""The postman keeps the order, sends what waits together, and turns errors and silence into events."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.app import Message as FlowerMessage

from securefl.engines.flower import mail, postman
from securefl.engines.flower.postman import MAX_LOSSES, Postman
from securefl.engines.link import Reply
from securefl.errors import EngineError
from securefl.roles.effects import Gone, Lost, Received
from securefl.roles.messages import Refusal, StatusRequest, read_message

from .conftest import Spoilt


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postman, "PULL_SECONDS", 0.01)
    monkeypatch.setattr(postman, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(postman, "PAUSE_SECONDS", 0.05)


def _note(text: str) -> Refusal:
    return Refusal(member="north", about="", hospital="", reason="test", explanation=text)


def _taking(seconds: Any) -> RecordDict:
    """An answer that says that training took this long."""
    notes = ConfigRecord({"training-seconds": seconds})
    return RecordDict({**mail.packed_reply(Reply([_note("hello").to_bytes()])), "notes": notes})


NO_SECONDS: list[Any] = ["soon", "0.5", math.nan, math.inf, -1.0, 1e300, 5, True, [0.5]]


def _echo(message: FlowerMessage) -> RecordDict:
    return mail.packed_reply(Reply(mail.unpacked(message.content), 0.5))


class Post:
    """A postman over a grid, and what it delivered."""

    def __init__(self, grid: Any, patience: float = 5.0) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        self.seen: list[tuple[str, int]] = []
        members = {"north": patience, "party": patience}
        self.postman = Postman(
            grid,
            members,
            frozenset({"party"}),
            self.events.put,
            lambda worker, member, message, reply, size: self.seen.append((member, size)),
            pause=0.01,
        )
        self.postman.start()

    def next(self, seconds: float = 5.0) -> Any:
        return self.events.get(timeout=seconds)


Open = Callable[..., Post]


@pytest.fixture
def opened() -> Iterator[Open]:
    posts: list[Post] = []

    def begin(*args: Any, **kwargs: Any) -> Post:
        posts.append(Post(*args, **kwargs))
        return posts[-1]

    yield begin
    for post in posts:
        post.postman.close()


NAMES = {1: "north", 2: "party"}


def test_answers_come_back_in_order_from_whom_they_are(opened: Open, memory_grid: Any) -> None:
    post = opened(memory_grid({1: _echo, 2: _echo}, NAMES))
    for i in range(5):
        post.postman.post("north", _note(str(i)))
    events = [post.next() for _ in range(5)]
    assert events == [Received("north", _note(str(i))) for i in range(5)]
    assert {member for member, _ in post.seen} == {"north"}


def test_what_waits_for_a_member_travels_together_and_one_at_a_time(opened: Open, memory_grid: Any) -> None:
    grid = memory_grid({1: _echo, 2: _echo}, NAMES)
    grid.away = {1}
    post = opened(grid)
    for i in range(70):
        post.postman.post("north", _note(str(i)))
    time.sleep(0.1)
    assert not grid.pushed
    grid.away = set()
    assert [post.next().message.explanation for _ in range(70)] == [str(i) for i in range(70)]
    assert [len(mail.unpacked(message.content)) for message in grid.pushed] == [64, 6]


def test_a_crash_is_a_loss_and_takes_what_waited(opened: Open, memory_grid: Any) -> None:
    answers = iter([RuntimeError, None])

    def crashes(message: FlowerMessage) -> RecordDict:
        if next(answers, None) is RuntimeError:
            post.postman.post("north", _note("written for the process that is gone"))
            raise RuntimeError
        return _echo(message)

    post = opened(memory_grid({1: crashes, 2: _echo}, NAMES))
    post.postman.post("north", _note("first"))
    assert post.next() == Lost("north")
    post.postman.post("north", _note("second"))
    assert post.next() == Received("north", _note("second"))


def test_silence_is_a_loss(opened: Open, memory_grid: Any) -> None:
    post = opened(memory_grid({1: lambda _: None, 2: _echo}, NAMES), patience=0.1)
    post.postman.post("north", _note("anybody?"))
    assert post.next() == Lost("north")


def test_mail_that_a_node_took_is_lost_when_it_is_started_anew(opened: Open, memory_grid: Any) -> None:
    grid = memory_grid({1: lambda _: None, 2: _echo}, NAMES)
    post = opened(grid, patience=60.0)
    post.postman.post("north", _note("taken and forgotten"))
    time.sleep(0.1)
    assert post.events.empty()
    grid.restart(1, _echo)
    assert post.next() == Lost("north")


def test_a_party_that_never_comes_is_given_up_and_a_hospital_is_not(opened: Open, memory_grid: Any) -> None:
    grid = memory_grid({1: _echo, 2: _echo}, NAMES)
    grid.away = {1, 2}
    post = opened(grid, patience=0.02)
    post.postman.post("north", _note("come back in time"))
    for _ in range(MAX_LOSSES):
        post.postman.post("party", StatusRequest(study=b"s" * 32))
        assert post.next() == Lost("party")
    post.postman.post("party", StatusRequest(study=b"s" * 32))
    gone = post.next()
    assert isinstance(gone, Gone)
    assert gone.member == "party"
    grid.away = {2}
    assert post.next() == Received("north", _note("come back in time"))


def test_a_refusal_of_a_party_is_its_end_and_a_hospitals_is_a_loss(opened: Open, memory_grid: Any) -> None:
    sentences = iter(["see the log of its SuperNode.", "\x1b[2J" + "A" * 10**6])

    def refuses(_: FlowerMessage) -> RecordDict:
        return mail.refused(next(sentences, "no"))

    post = opened(memory_grid({1: refuses, 2: refuses}, NAMES))
    post.postman.post("party", StatusRequest(study=b"s" * 32))
    assert post.next() == Gone("party", "party refuses: see the log of its SuperNode.")
    post.postman.post("party", StatusRequest(study=b"s" * 32))
    assert post.next().explanation == "party refuses: \ufffd[2J" + "A" * 296 + "…"
    post.postman.post("north", _note("hello"))
    assert post.next() == Lost("north")


@pytest.mark.parametrize(
    "answer",
    [
        RecordDict(),
        mail.packed_reply(Reply([b"not a message"])),
        mail.packed_reply(Reply([StatusRequest(study=b"s").to_bytes()])),
        mail.packed([b"no notes"], "north"),
        *map(_taking, NO_SECONDS),
    ],
    ids=["empty", "not a message", "a coordinator's message", "no notes", *map(str, NO_SECONDS)],
)
def test_an_answer_that_is_none_is_a_loss_and_the_run_goes_on(
    opened: Open, memory_grid: Any, answer: RecordDict
) -> None:
    answers = [answer]
    once = lambda message: answers.pop() if answers else _echo(message)  # noqa: E731
    post = opened(memory_grid({1: once, 2: _echo}, NAMES))
    post.postman.post("north", _note("hello"))
    assert post.next() == Lost("north")
    assert not post.seen
    for member in NAMES.values():
        post.postman.post(member, _note("still there?"))
        assert post.next() == Received(member, _note("still there?"))


def test_a_party_may_say_what_a_hospital_may_not(opened: Open, memory_grid: Any) -> None:
    post = opened(memory_grid({1: _echo, 2: _echo}, NAMES))
    for member in ("party", "north"):
        post.postman.post(member, StatusRequest(study=b"s"))
    events = [post.next(), post.next()]
    assert Received("party", StatusRequest(study=b"s")) in events
    assert Lost("north") in events


@pytest.mark.parametrize(
    ("type_", "change"),
    [
        ("Array", lambda data: data[:-5] + b"?????"),
        ("ArrayRecord", lambda data: data[:-2]),
        ("RecordDict", lambda data: data[:-1] + b"\xff"),
        ("Message", lambda data: b"no head, no body"),
        ("ConfigRecord", lambda data: data + b"\xff"),
    ],
)
def test_a_reply_that_flower_cannot_read_is_its_senders_loss_and_the_run_goes_on(
    opened: Open, memory_grid: Any, type_: str, change: Callable[[bytes], bytes]
) -> None:
    answered = threading.Event()

    def spoils(message: FlowerMessage) -> Spoilt:
        answered.set()
        return Spoilt(_echo(message), type_, change)

    def waits(message: FlowerMessage) -> RecordDict | None:
        return _echo(message) if answered.is_set() else None

    post = opened(memory_grid({1: spoils, 2: waits}, NAMES))
    # The first time, what came with it is lost too; then each answer is taken by itself.
    for _ in range(2):
        post.postman.post("party", _note("hello"))
        post.postman.post("north", _note("hello"))
        events = [post.next(), post.next()]
        assert Lost("north") in events
    assert Received("party", _note("hello")) in events


def test_a_stranger_whose_reply_flower_cannot_read_ends_nothing(opened: Open, memory_grid: Any) -> None:
    def spoils(message: FlowerMessage) -> Spoilt:
        return Spoilt(mail.greeting("north"), "Message", lambda _: b"no head, no body")

    post = opened(memory_grid({1: _echo, 2: _echo, 3: spoils}, NAMES))
    for text in ("one", "two"):
        post.postman.post("north", _note(text))
        assert post.next() == Received("north", _note(text))


def test_of_two_replies_to_one_mail_one_is_taken(opened: Open, memory_grid: Any) -> None:
    grid = memory_grid({1: _echo, 2: _echo}, NAMES)
    once = grid.pull_messages
    grid.pull_messages = lambda numbers: [reply for reply in once(numbers) for _ in range(2)]
    post = opened(grid)
    for text in ("one", "two"):
        post.postman.post("north", _note(text))
        assert post.next() == Received("north", _note(text))
    assert len(post.seen) == 2


def test_the_superlinks_end_is_one_sentence(opened: Open, memory_grid: Any) -> None:
    def refused(*_: Any) -> list[FlowerMessage]:
        raise ConnectionError("connection refused")

    grid = memory_grid({1: _echo, 2: _echo}, NAMES)
    grid.pull_messages = grid.get_nodes = refused
    post = opened(grid)
    post.postman.post("north", _note("hello"))
    error = post.next()
    assert isinstance(error, EngineError)
    assert "SuperLink" in str(error)
    assert "--resume" in str(error)


def test_a_silent_superlink_ends_the_run_after_a_while(
    opened: Open, memory_grid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postman, "SILENCE_SECONDS", 0.3)
    grid = memory_grid({1: _echo, 2: _echo}, NAMES)
    post = opened(grid)
    time.sleep(0.4)
    post.postman.check()  # nobody wrote, and the SuperLink still answers
    let_go = threading.Event()
    grid.get_nodes = lambda: let_go.wait(30) and []
    time.sleep(0.5)
    with pytest.raises(EngineError, match="--resume"):
        post.postman.check()
    let_go.set()


def test_two_nodes_of_one_name_end_the_run(opened: Open, memory_grid: Any) -> None:
    post = opened(memory_grid({1: _echo, 2: _echo, 3: _echo}, {**NAMES, 3: "north"}))
    error = post.next()
    assert isinstance(error, EngineError)
    assert "Two SuperNodes are registered as north" in str(error)


def test_a_node_without_a_name_is_asked_and_a_registered_name_comes_first(
    opened: Open, memory_grid: Any
) -> None:
    def says(member: str, seen: list[bytes]) -> Callable[[FlowerMessage], RecordDict]:
        def node(message: FlowerMessage) -> RecordDict:
            if message.metadata.message_type == mail.HELLO:
                return mail.greeting(member)
            seen.extend(mail.unpacked(message.content))
            return _echo(message)

        return node

    north: list[bytes] = []
    imposter: list[bytes] = []
    stranger: list[bytes] = []
    party: list[bytes] = []
    nodes = {
        1: says("north", north),
        2: says("party", party),
        3: says("north", imposter),
        4: says("nobody we know", stranger),
    }
    post = opened(memory_grid(nodes, {1: "north"}))
    post.postman.post("north", _note("for north"))
    post.postman.post("party", _note("for the party"))
    members = {post.next().sender for _ in range(2)}
    assert members == {"north", "party"}
    assert [read_message(data) for data in north] == [_note("for north")]
    assert [read_message(data) for data in party] == [_note("for the party")]
    assert not imposter
    assert not stranger
