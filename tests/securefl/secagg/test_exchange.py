"""The server's steps over a Grid: what each message carries, how long it waits, and whose answers it takes."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from protocols.pairwise import Masked, SignedKeys
from securefl.secagg import SecureAggregation, mail, mod
from securefl.secagg.strategy import SecureGrid
from tests.securefl.secagg.steps import step_of, written_by

STEPS = [mail.ADVERTISE, mail.SHARE, mail.MASK, mail.UNMASK]


def asked(grid, **options):
    """A strategy's messages to all nodes."""
    content = {"arrays": ArrayRecord({"w": Array(np.zeros(3))})}
    return [Message(RecordDict(content), node, "train", **options) for node in grid.contexts]


def exchange(grid, messages=None, timeout=None, **options):
    settings = SecureAggregation(FedAvg(), **options).settings
    [reply] = SecureGrid(grid, settings).send_and_receive(messages or asked(grid), timeout=timeout)
    return reply


def average_of(values, nodes):
    weights = {node: values(node)[0] for node in nodes}
    total = sum(weights.values())
    return sum(values(node)[1]["double"] * weights[node] for node in nodes) / total


def sent(grid):
    return [message for message in grid.seen if not message.metadata.reply_to_message_id]


@pytest.mark.parametrize(
    ("timeout", "step_timeout", "short", "work"),
    [(60, 5, 5, 60), (3, 5, 3, 3), (None, 5, 5, None), (60, None, 60, 60), (None, None, None, None)],
)
def test_how_long_the_server_waits_for_each_step(loop_grid, simple_app, timeout, step_timeout, short, work):
    waited = []

    class Waiting(loop_grid):
        def send_and_receive(self, messages, *, timeout=None):
            messages = list(messages)
            waited.append((step_of(messages[0]), timeout))
            return super().send_and_receive(messages, timeout=timeout)

    reply = exchange(Waiting(simple_app(mod), 3), timeout=timeout, step_timeout=step_timeout)
    assert not reply.has_error()
    assert waited == [(step, work if step == mail.MASK else short) for step in STEPS]


def test_every_step_keeps_the_strategys_group_and_time_to_live(loop_grid, simple_app):
    grid = loop_grid(simple_app(mod), 3)
    assert not exchange(grid, asked(grid, ttl=1234.0, group_id="7")).has_error()
    assert {(m.metadata.ttl, m.metadata.group_id) for m in sent(grid)} == {(1234.0, "7")}


def test_the_model_is_sent_once(loop_grid, simple_app):
    grid = loop_grid(simple_app(mod), 3)
    assert not exchange(grid).has_error()
    carried = {(step_of(message), tuple(sorted(message.content))) for message in sent(grid)}
    alone = (mail.RECORD,)
    assert carried == {(step, ("arrays", *alone) if step == mail.MASK else alone) for step in STEPS}


def test_a_client_that_takes_anothers_name_leaves_and_the_other_stays(loop_grid, simple_app, values):
    grid = loop_grid(simple_app(mod), 4)

    def renamed(data):
        keys = SignedKeys.from_bytes(data)
        return [keys.model_copy(update={"keys": keys.keys.model_copy(update={"name": "101"})}).to_bytes()]

    grid.app = written_by(100, mail.ADVERTISE, renamed)(grid.app)  # the first that answers
    reply = exchange(grid)
    np.testing.assert_allclose(
        reply.content["arrays"]["double"].numpy(), average_of(values, [101, 102, 103]), atol=1e-7
    )


@pytest.mark.parametrize("step", STEPS)
def test_second_answers_and_answers_of_strangers_are_not_taken(loop_grid, simple_app, values, step):
    class Echo(loop_grid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = super().send_and_receive(messages, timeout=timeout)
            if step_of(replies[0]) != step:
                return replies
            again, stranger = self.altered(replies[1]), self.altered(replies[2])
            stranger.metadata.__dict__["_src_node_id"] = 999
            return [*replies, again, stranger]

        def altered(self, reply):
            """The same answer; of a masked vector, another one."""
            messages = mail.unpacked(reply.content)[1]
            if step == mail.MASK:
                masked = Masked.from_bytes(messages[0])
                messages[0] = masked.model_copy(update={"y": bytes(len(masked.y))}).to_bytes()
            other = Message(RecordDict({mail.RECORD: mail.packed(step, *messages)}), reply_to=sent(self)[0])
            other.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id
            return other

    grid = Echo(simple_app(mod), 4)
    reply = exchange(grid)
    np.testing.assert_allclose(
        reply.content["arrays"]["double"].numpy(), average_of(values, grid.contexts), atol=1e-7
    )


@pytest.mark.parametrize(("nodes", "threshold"), [(6, 3), (4, 5), (8, 4)])
def test_a_threshold_of_half_or_of_more_than_all_is_told_before_anybody_is_asked(
    loop_grid, simple_app, nodes, threshold
):
    grid = loop_grid(simple_app(mod), nodes)
    reply = exchange(grid, threshold=threshold)
    assert "a threshold above half of them and at most all" in reply.error.reason
    assert grid.seen == []
