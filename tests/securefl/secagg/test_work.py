"""What clients are given to work on is the same for all, or there is no sum."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from securefl.secagg import SecureAggregation, SecureMod, mod
from securefl.secagg.strategy import SecureGrid
from securefl.secagg.work import work_of

EXAMPLES = 20


def gradient(node):
    return np.random.default_rng(node).normal(size=5)


def trains(*mods, trained=None):
    """An app whose reply is the model that it got, one step further."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message, context):
        if trained is not None:
            trained.append(context.node_id)
        epochs = context.run_config.get("epochs", 1)
        step = epochs * message.content["config"]["lr"] * gradient(context.node_id)
        arrays = ArrayRecord({"w": Array(message.content["arrays"]["w"].numpy() + step)})
        metrics = MetricRecord({"num-examples": EXAMPLES})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def still(message):
    """Nothing to learn: a model of zeros, and no step from it."""
    message.content["arrays"] = ArrayRecord({"w": Array(np.zeros(5))})
    message.content["config"]["lr"] = 0.0
    return message


def at_work(message):
    return "mask.0" in message.content.array_records.get("securefl.secagg", {})


def one_round(grid, model):
    return SecureAggregation(FedAvg(fraction_evaluate=0.0)).start(
        grid=grid,
        initial_arrays=ArrayRecord({"w": Array(model)}),
        train_config=ConfigRecord({"lr": 0.1}),
        num_rounds=1,
    )


def attacked(loop_grid, app):
    """The server gives all but node 101 nothing to learn. What it then computes of that one's update."""
    grid, model = loop_grid(app, 4), np.full(5, 7.0)
    grid.hook = lambda message, node: still(message) if node != 101 and at_work(message) else message
    result = one_round(grid, model)
    reasons = [message.error.reason for message in grid.seen if message.has_error()]
    return (result.arrays["w"].numpy() * 4 - model if len(result.arrays) else None), reasons


def test_a_server_that_gives_all_but_one_nothing_to_learn_gets_no_sum(loop_grid):
    trained = []
    update, reasons = attacked(loop_grid, trains(mod, trained=trained))
    assert update is None
    assert reasons == ["The server sent other data to train on than was agreed on."] * 3
    assert trained == [101]


def test_control_without_the_check_it_reads_that_ones_update(loop_grid, monkeypatch):
    monkeypatch.setattr(SecureMod, "_check_work", lambda *_: None)
    update, reasons = attacked(loop_grid, trains(SecureMod()))
    np.testing.assert_allclose(update, 0.1 * gradient(101), atol=1e-6)
    assert reasons == []


def records():
    return {
        "arrays": ArrayRecord({"a": Array(np.zeros(3)), "b": Array(np.ones((2, 1)))}),
        "config": ConfigRecord({"lr": 0.5, "flag": True, "text": "x", "raw": b"y", "many": [1, 2]}),
        "metrics": MetricRecord({"m": 1, "n": [0.5]}),
    }


def asking(content, kind="train", **options):
    return Message(RecordDict(content), 100, kind, **options)


def digest(change=lambda found: None, **options):
    content = records()
    change(content)
    return work_of(asking(content, **options))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["arrays"].update({"a": Array(np.array([0.0, 0.0, 1e-300]))}),
        lambda r: r["arrays"].update({"a": Array(np.zeros(3, dtype=np.int64))}),  # the same bytes
        lambda r: r["arrays"].update({"a": Array(np.zeros((3, 1)))}),
        lambda r: r["arrays"].update({"a": Array("float64", (3,), "other", r["arrays"]["a"].data)}),
        lambda r: r["arrays"].update({"c": Array(np.zeros(0))}),
        lambda r: r.update(arrays=ArrayRecord(dict(reversed(r["arrays"].items())))),
        lambda r: r["arrays"].pop("b"),
        lambda r: r["config"].update({"lr": 0.0}),
        lambda r: r["config"].update({"flag": 1}),
        lambda r: r["config"].update({"flag": False}),
        lambda r: r["config"].update({"text": b"x"}),
        lambda r: r["config"].update({"many": [2, 1]}),
        lambda r: r["config"].update({"more": 1}),
        lambda r: r["metrics"].update({"m": 1.0}),
        lambda r: r["metrics"].update({"n": [-0.5]}),
        lambda r: r.update(config=MetricRecord(), metrics=ConfigRecord()),
        lambda r: r.update(other=r.pop("metrics")),
        lambda r: r.update(more=ConfigRecord()),
        lambda r: r.pop("metrics"),
    ],
)
def test_whatever_is_changed_of_the_work_changes_its_digest(change):
    assert digest(change) != digest()


def test_the_round_that_a_message_is_of_is_part_of_the_work():
    assert digest(group_id="2") != digest(group_id="1")


def test_the_protocols_own_record_and_the_node_are_not_part_of_the_work():
    assert digest(lambda r: r.update({"securefl.secagg": ArrayRecord()})) == digest()
    assert work_of(Message(RecordDict(records()), 7, "train")) == digest()


@given(st.dictionaries(st.text(max_size=3), st.floats() | st.integers(-(2**63), 2**63 - 1) | st.binary()))
def test_the_digest_is_the_same_behind_flowers_wire(config):
    from flwr.common.serde import message_from_proto, message_to_proto

    sent = asking({"config": ConfigRecord(config), **{k: v for k, v in records().items() if k != "config"}})
    assert work_of(message_from_proto(message_to_proto(sent))) == work_of(sent)


def test_a_client_that_got_other_work_does_not_train(loop_grid):
    """It leaves, and the others have their sum."""
    trained = []
    grid = loop_grid(trains(mod, trained=trained), 4)
    grid.hook = lambda message, node: still(message) if node == 101 and at_work(message) else message
    result = one_round(grid, np.zeros(5))
    assert sorted(trained) == [100, 102, 103]
    mean = sum(0.1 * gradient(node) for node in trained) / 3
    np.testing.assert_allclose(result.arrays["w"].numpy(), mean, atol=1e-6)


def test_a_strategy_that_sends_different_work_is_told_so(loop_grid):
    grid = loop_grid(trains(mod), 4)
    messages = [
        Message(RecordDict({"config": ConfigRecord({"lr": 0.1 * (node % 2)})}), node, "train")
        for node in grid.contexts
    ]
    [reply] = SecureGrid(grid, SecureAggregation(FedAvg()).settings).send_and_receive(messages)
    assert "all clients get the same model and configuration" in reply.error.reason
    assert grid.seen == []


def test_equal_work_in_messages_of_their_own_is_fine(loop_grid):
    grid, settings = loop_grid(trains(mod), 4), SecureAggregation(FedAvg()).settings
    content = {"arrays": ArrayRecord({"w": Array(np.zeros(5))}), "config": ConfigRecord({"lr": 0.1})}
    messages = [Message(RecordDict(dict(content)), node, "train") for node in grid.contexts]
    [reply] = SecureGrid(grid, settings).send_and_receive(messages)
    assert not reply.has_error()


# -- the run's configuration ------------------------------------------------------------------------------------------


def told(loop_grid, app, late):
    """The SuperLink tells all but node 101 to train for no epoch, from the beginning or at the step of training."""
    grid, model = loop_grid(app, 4, run_config={"epochs": 1}), np.full(5, 7.0)

    def tell(message, node):
        grid.contexts[node].run_config = {"epochs": int(node == 101)}

    def hook(message, node):
        if late and at_work(message):
            tell(message, node)
        return message

    grid.hook = hook
    if not late:
        for node in grid.contexts:
            tell(None, node)
    result = one_round(grid, model)
    reasons = [message.error.reason for message in grid.seen if message.has_error()]
    return (result.arrays["w"].numpy() * 4 - 4 * model if len(result.arrays) else None), reasons


@pytest.mark.parametrize("late", [False, True])
def test_a_server_that_gives_all_but_one_no_epoch_gets_no_sum(loop_grid, late):
    trained = []
    update, reasons = told(loop_grid, trains(mod, trained=trained), late)
    assert reasons == (["Not all clients go by the same settings as this one."] * 3 if late else [])
    # From the beginning: the one that was told something else is left out by the server itself, here an honest one.
    assert 101 not in trained or update is None
    assert update is None or not update.any()


def test_a_server_that_lists_the_one_with_another_configuration_is_refused(loop_grid, monkeypatch):
    """It does not do what the honest server does, and leave that one out."""
    monkeypatch.setattr(
        "protocols.pairwise.server.Counter.most_common", lambda _counts, _n: [(AnySetting(), 1)]
    )
    trained = []
    update, reasons = told(loop_grid, trains(mod, trained=trained), False)
    assert update is None
    assert reasons == ["Not all clients go by the same settings as this one."] * 4
    assert trained == []


class AnySetting:
    """Equal to every setting."""

    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize("late", [False, True])
def test_control_without_settings_it_reads_that_ones_update(loop_grid, monkeypatch, late):
    monkeypatch.setattr("securefl.secagg.client_mod.setting_of", lambda _context: b"")
    update, _ = told(loop_grid, trains(mod), late)
    np.testing.assert_allclose(update, 0.1 * gradient(101), atol=1e-5)


def test_a_client_whose_run_is_configured_otherwise_leaves_and_the_log_says_so(loop_grid, caplog):
    import logging

    grid = loop_grid(trains(mod), 4, run_config={"epochs": 1})
    grid.contexts[101].run_config = {"epochs": 2}
    logging.getLogger("flwr").addHandler(caplog.handler)
    result = one_round(grid, np.zeros(5))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    mean = sum(0.1 * gradient(node) for node in (100, 102, 103)) / 3
    np.testing.assert_allclose(result.arrays["w"].numpy(), mean, atol=1e-6)
    assert "Node 101 leaves" in caplog.text
    assert "another configuration than that of the others" in caplog.text
