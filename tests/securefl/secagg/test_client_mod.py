"""The mod, message by message: it fails closed."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from protocols.canonical import digest
from protocols.pairwise import Delivery, Memory, Roster, SignedKeys, StepError, Terms
from securefl.secagg import Plan, SecureMod, mail, mod
from securefl.secagg.work import KIND, work_of

WORK = digest(KIND, ["", []])  # of a message without records
PLAN = Plan(weight="num-examples", bound=65536.0, max_weight=2.0**20, cohort=4, work=WORK)


def terms(**changes):
    usual = {
        "run": "1",
        "exchange": 1,
        "purpose": "train",
        "threshold": 3,
        "width": 64,
        "signed": False,
        "details": PLAN.to_bytes(),
    }
    return Terms(**{**usual, **changes})


def context(node=100):
    return Context(1, node, {}, RecordDict(), {})


def message(step, *parts, kind="train", **records):
    return Message(RecordDict({mail.RECORD: mail.packed(step, *parts), **records}), 100, kind)


def ask(app, place, sent):
    """The answer, or the reason for which there is none; the state is unchanged then."""
    before = {name: dict(record) for name, record in place.state.config_records.items()}
    reply = app(sent, place)
    if reply.has_error():
        assert before == {name: dict(record) for name, record in place.state.config_records.items()}
        return reply.error.reason
    return reply.content


def to_shares(app, n=4, **changes):
    """Four clients after the second step: their contexts, the roster, and what the first is to receive."""
    places = {str(100 + k): context(100 + k) for k in range(n)}
    agreed = terms(**changes)
    members = []
    for place in places.values():
        answer = ask(app, place, message(mail.ADVERTISE, agreed.to_bytes()))
        members.append(SignedKeys.from_bytes(mail.expect(mail.ADVERTISE, answer, 1)[0]))
    roster = Roster(terms=agreed.digest(), members=members)
    from protocols.pairwise import Parcels

    parcels = {}
    for name, place in places.items():
        answer = ask(app, place, message(mail.SHARE, roster.to_bytes()))
        parcels[name] = Parcels.from_bytes(mail.expect(mail.SHARE, answer, 1)[0])
    sealed = {name: parcels[name].sealed["100"] for name in places if name != "100"}
    return places, roster, Delivery(roster=roster.digest(), sealed=sealed)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_message_that_is_no_step_gets_no_reply_of_the_app(simple_app, kind):
    plain = Message(RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord()}), 100, kind)
    assert "under secure aggregation only" in ask(simple_app(mod), context(), plain)
    # The control: without the mod the app answers.
    assert "metrics" in ask(simple_app(), context(), plain)


@pytest.mark.parametrize("kind", ["get_parameters", "get_properties", "reconnect"])
def test_only_queries_pass_by(simple_app, kind):
    """Flower's older API has types of its own; one of them asks for the parameters."""
    called = []
    reply = mod(plain(kind), context(), lambda sent, place: called.append(sent) or sent)
    assert reply.error.reason == "This client answers train, evaluate and query messages only."
    assert not called


@pytest.mark.parametrize("kind", ["trains", "train.a/b", "train.../../a", "train.a b", "train.\0"])
def test_a_type_that_cannot_be_part_of_a_files_name_is_refused(kind):
    """Flower writes no reply to such a message, not even an error; here it is refused before anything is done."""
    with pytest.raises(StepError, match="train, evaluate and query messages only"):
        mod._answer(plain(kind), context(), lambda sent, place: pytest.fail("The app is asked."))


@pytest.mark.parametrize("kind", ["query", "query.mine", "system"])
def test_control_queries_pass_by(kind):
    assert mod(plain(kind), context(), lambda sent, place: sent) is not None


def plain(kind):
    sent = Message(RecordDict(), 100, "query")
    sent.metadata.__dict__["_message_type"] = kind
    return sent


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"run": "2"}, "another run"),
        ({"purpose": "evaluate"}, "another kind"),
        ({"threshold": 2}, "too low"),
        ({"signed": True}, "no pinned keys"),
        ({"width": 8}, "16, 32 or 64"),
        ({"details": b""}, "not a message"),
        ({"details": PLAN.model_copy(update={"cohort": 0}).to_bytes()}, "at least one summand"),
        ({"details": PLAN.model_copy(update={"bound": float("nan")}).to_bytes()}, "bound"),
        ({"width": 16}, "do not fit"),
    ],
)
def test_terms_that_the_client_cannot_keep_are_refused(simple_app, change, match):
    assert match in ask(simple_app(mod), context(), message(mail.ADVERTISE, terms(**change).to_bytes()))


def test_a_step_is_answered_once(simple_app):
    app, place = simple_app(mod), context()
    first = message(mail.ADVERTISE, terms().to_bytes())
    assert mail.RECORD in ask(app, place, first)
    assert "not newer" in ask(app, place, first)
    places, roster, delivery = to_shares(app)
    place = places["100"]
    assert "not the next one" in ask(app, place, message(mail.SHARE, roster.to_bytes()))
    assert mail.RECORD in ask(app, place, message(mail.MASK, delivery.to_bytes()))
    assert "not the next one" in ask(app, place, message(mail.MASK, delivery.to_bytes()))


@pytest.mark.parametrize("step", [mail.SHARE, mail.MASK, mail.AGREE, mail.UNMASK])
def test_a_step_before_its_time_is_refused(simple_app, step):
    empty = [Delivery(roster=bytes(32), sealed={}).to_bytes()]
    reason = ask(simple_app(mod), context(), message(step, *empty))
    assert isinstance(reason, str)


def test_more_clients_than_agreed_are_refused_before_training(simple_app):
    trained = []
    app = simple_app(mod, change=lambda content, node: trained.append(node))
    small = PLAN.model_copy(update={"cohort": 3})
    places, _, delivery = to_shares(app, details=small.to_bytes())
    assert "more than the 3 agreed on" in ask(app, places["100"], message(mail.MASK, delivery.to_bytes()))
    assert trained == []


def test_the_app_sees_the_message_without_the_protocol(simple_app):
    seen = []

    def spy(sent, place, call_next):
        seen.append(set(sent.content))
        return call_next(sent, place)

    app, records = simple_app(mod, spy), {"config": ConfigRecord({"lr": 0.1})}
    plan = PLAN.model_copy(update={"work": work_of(Message(RecordDict(records), 100, "train"))})
    places, _, delivery = to_shares(app, details=plan.to_bytes())
    ask(app, places["100"], message(mail.MASK, delivery.to_bytes(), **records))
    assert seen == [{"config"}]


def test_train_and_evaluate_have_memories_of_their_own(simple_app):
    app, place = simple_app(mod), context()
    ask(app, place, message(mail.ADVERTISE, terms().to_bytes()))
    ask(app, place, message(mail.ADVERTISE, terms(purpose="evaluate").to_bytes(), kind="evaluate"))
    memories = [Memory.from_bytes(record["memory"]) for record in place.state.config_records.values()]
    assert [memory.terms.purpose for memory in memories] == ["train", "evaluate"]


def test_a_client_can_ask_for_larger_sums(simple_app):
    app = simple_app(SecureMod(minimum=4))
    assert "asks for 4" in ask(app, context(), message(mail.ADVERTISE, terms(threshold=3).to_bytes()))


@given(
    st.lists(st.binary(max_size=60), max_size=3),
    st.sampled_from([*mail.STEPS, "other", ""]),
    st.booleans(),
)
def test_whatever_the_server_sends_the_answer_is_a_refusal(parts, step, known):
    place = context()
    if known:
        mod(message(mail.ADVERTISE, terms().to_bytes()), place, None)
    reply = mod(message(step, *parts), place, None)
    assert reply.has_error()


@pytest.mark.parametrize(
    "record",
    [
        ArrayRecord(),
        ArrayRecord({"share.1": Array(np.zeros(3, dtype=np.uint8))}),
        ArrayRecord({"share.0": Array(np.zeros(3, dtype=np.uint8))}),
        ArrayRecord({"share.0": Array("float32", (3,), "securefl.bytes", b"abc")}),
        ArrayRecord({"share.0": Array("uint8", (4,), "securefl.bytes", b"abc")}),
    ],
)
def test_records_that_are_not_mail_are_refused(record):
    reply = mod(Message(RecordDict({mail.RECORD: record}), 100, "train"), context(), None)
    assert "secure aggregation" in reply.error.reason
