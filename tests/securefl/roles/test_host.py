"""The host: effects in order, a durable memory, and refusals instead of exceptions."""

from __future__ import annotations

import pytest

from securefl.errors import EngineError, RefusedError
from securefl.roles.effects import (
    AddShares,
    Enter,
    OpenSum,
    Persist,
    RunCommittee,
    Send,
    SetTimer,
    Start,
    SumOpened,
)
from securefl.roles.host import Answering, Host, Store
from securefl.roles.messages import Accepted, Refusal, StatusRequest, read_message


class Scripted:
    """A machine that says what it was told to say."""

    name = "scripted"

    def __init__(self, *answers):
        self.answers, self.events = list(answers), []

    def handle(self, event):
        self.events.append(event)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def test_effects_are_carried_out_in_order_each_durable_before_the_next(store):
    seen = []

    class Watched(Store):
        def put(self, name, data):
            super().put(name, data)
            seen.append(("kept", name, self[name]))

    watched = Watched(store.path("").parent / "watched")
    machine = Scripted([Persist("a", b"1"), Send("x", Accepted(member="m", round=1)), Persist("b", b"2")])
    host = Host(machine, watched, lambda to, message: seen.append(("sent", to, watched["a"])))
    host.take(Start())
    assert seen == [("kept", "a", b"1"), ("sent", "x", b"1"), ("kept", "b", b"2")]


def test_the_result_of_a_job_goes_back_into_the_machine(store):
    job = OpenSum(None, "share", 1)
    done = SumOpened(b"sum")
    machine = Scripted([RunCommittee(job), Persist("after", b"1")], [Persist("last", b"2")])
    jobs = []
    Host(machine, store, lambda *_: None, run_job=lambda j: jobs.append(j) or done).take(Start())
    assert jobs == [job]
    assert machine.events == [Start(), done]
    assert dict(store) == {"after": b"1", "last": b"2"}


def test_a_refused_event_changes_nothing(store):
    host = Host(Scripted(RefusedError("no", "Not that.")), store, lambda *_: None)
    with pytest.raises(RefusedError):
        host.take(Start())
    assert len(store) == 0


def test_an_effect_that_the_host_has_no_hand_for_is_an_error_in_the_program(store):
    with pytest.raises(TypeError, match="scripted has no host for SetTimer"):
        Host(Scripted([SetTimer("t", 1.0)]), store, lambda *_: None).take(Start())


def test_what_follows_a_failed_write_is_not_done(store):
    sent = []
    store.path("a").mkdir()  # a folder where the file should stand
    host = Host(Scripted([Persist("a", b"1"), Send("x", Accepted(member="m", round=1))]), store, sent.append)
    with pytest.raises(EngineError, match="cannot be written"):
        host.take(Start())
    assert sent == []


def test_an_entry_that_another_process_made_meanwhile_ends_the_effects(store, tmp_path):
    ledger, sent = Store(tmp_path / "ledger"), []
    effects = [Enter("a", b"1"), Persist("b", b"2"), Send("x", Accepted(member="m", round=1))]
    for entered, carried_out in ((b"2", False), (b"1", True), (None, True)):
        ledger.put("a", entered or b"")
        host = Host(Scripted(effects), store, lambda to, _message: sent.append(to), ledger=ledger)
        if carried_out:
            host.take(Start())
        else:
            with pytest.raises(EngineError, match="written by another process"):
                host.take(Start())
        assert (bool(sent), "b" in store) == (carried_out, carried_out)
        assert ledger["a"] == (entered or b"1")
        sent.clear()
        store.put("b", b"")


def test_an_answering_role_answers_bytes_with_bytes(store):
    machine = Scripted(
        [Send("coordinator", Accepted(member="m", round=1))], [], RefusedError("no", "Not that.")
    )
    answering = Answering(machine, store)
    request = StatusRequest(study=b"s").to_bytes()
    assert answering.answer(request) == [Accepted(member="m", round=1).to_bytes()]
    assert answering.answer(request) == []
    (refused,) = answering.answer(request)
    assert read_message(refused) == Refusal(
        member="scripted", about="status-request", hospital="", reason="no", explanation="Not that."
    )
    (malformed,) = answering.answer(b"nonsense")
    assert (read_message(malformed).reason, read_message(malformed).about) == ("malformed", "")


def test_a_memory_is_private_and_hides_unfinished_files(store, tmp_path):
    store.put("a", b"1")
    store.put("b", b"")  # erasing what is not there
    (tmp_path / "home" / ".a.cafe").write_bytes(b"half")
    assert dict(store) == {"a": b"1"}
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert store.path("a").stat().st_mode & 0o777 == 0o600
    store.put("a", b"")
    assert "a" not in store
    assert 3 not in store
    with pytest.raises(KeyError):
        store["a"]


def test_a_memory_that_is_opened_is_rid_of_unfinished_files(store, tmp_path):
    store.put("pledge-3", b"1")
    (tmp_path / "home" / ".pledge-3.0123cafe").write_bytes(b"an update")
    assert dict(Store(tmp_path / "home")) == {"pledge-3": b"1"}
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["pledge-3"]


def test_the_secrets_of_jobs_and_writes_do_not_show():
    assert "secret" not in repr(Persist("name", b"secret"))
    assert "secret" not in repr(SumOpened(b"secret"))
    assert "secret" not in repr(AddShares(None, "p", {}, "secret", 1))
