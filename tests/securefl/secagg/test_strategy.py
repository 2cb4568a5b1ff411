"""The wrapper and the mod together, over Flower's wire format and without processes."""

import logging
import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedProx

from protocols.errors import EncodingError
from protocols.pairwise import Agreement, SignedKeys
from protocols.signing import SigningKey
from securefl.secagg import Plan, SecAggError, SecureAggregation, SecureMod, client_mod, mail, mod
from securefl.secagg import exchange as exchange_module
from securefl.secagg.strategy import SecureGrid
from securefl.secagg.vector import NOT_AS_AGREED, ArrayPlace, Layout
from tests.securefl.secagg.steps import at_step, written_by


def initial():
    return ArrayRecord(
        {
            "w": Array(np.zeros((3, 4), dtype=np.float32)),
            "count": Array(np.array(0, dtype=np.int64)),
            "double": Array(np.zeros(5)),
        }
    )


def run(grid, strategy, rounds=1):
    return strategy.start(grid=grid, initial_arrays=initial(), num_rounds=rounds)


def close(result, other, tolerance=1e-6):
    assert set(result.arrays) == set(other.arrays)
    for name, array in other.arrays.items():
        mine = result.arrays[name].numpy()
        assert mine.dtype == array.numpy().dtype
        assert mine.shape == array.numpy().shape
        np.testing.assert_allclose(mine, array.numpy(), rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("width", [64, 32])
@pytest.mark.parametrize("strategy", [FedAvg, FedProx, FedAvgM, FedAdam])
def test_the_model_is_that_of_the_plain_app(loop_grid, simple_app, strategy, width):
    make = (lambda: strategy(proximal_mu=0.1)) if strategy is FedProx else strategy
    options = {} if width == 64 else {"width": 32, "bound": 128.0, "max_weight": 100.0}
    if strategy is FedAdam:  # its initial arrays have to be floats
        options["bound"] = 128.0
    plain = run(loop_grid(simple_app(), 4), make(), 3)
    secure = run(loop_grid(simple_app(mod), 4), SecureAggregation(make(), **options), 3)
    # Adam divides by the root of its second moment: small differences grow.
    close(secure, plain, 1e-6 if width == 64 else 1e-3)
    for mine, theirs in (
        (secure.train_metrics_clientapp, plain.train_metrics_clientapp),
        (secure.evaluate_metrics_clientapp, plain.evaluate_metrics_clientapp),
    ):
        assert set(mine) == set(theirs) == {1, 2, 3}
        for key in theirs[3]:
            assert mine[3][key] == pytest.approx(theirs[3][key], abs=1e-3 if width == 32 else 1e-8)


def test_nobodys_values_pass_in_the_open(loop_grid, simple_app, values):
    def passing(grid):
        found = set()
        for message in grid.seen:
            if message.has_error():
                continue
            for record in message.content.metric_records.values():
                found |= {value for value in record.values() if not isinstance(value, list)}
            blob = b"".join(
                array.data for record in message.content.array_records.values() for array in record.values()
            )
            for node in grid.contexts:
                n, arrays, _ = values(node)
                found |= {f"arrays of {node}"} if arrays["w"].tobytes() in blob else set()
                found |= {f"arrays of {node}"} if (arrays["double"] * n).tobytes() in blob else set()
        return found

    secure, plain = loop_grid(simple_app(mod), 4), loop_grid(simple_app(), 4)
    run(secure, SecureAggregation(FedAvg()))
    run(plain, FedAvg())
    assert passing(secure) == set()
    # The control: the same search in the plain app's messages finds everybody's weight, metric and arrays.
    for node in plain.contexts:
        n, _, loss = values(node)
        assert {n, loss, f"arrays of {node}"} <= passing(plain)


def test_the_context_is_not_in_any_message_and_holds_no_secret_afterwards(loop_grid, simple_app):
    grid = loop_grid(simple_app(mod), 3)
    kept = []

    def watch(message, node):
        for record in grid.contexts[node].state.config_records.values():
            kept.append(record["memory"])
        return message

    grid.hook = watch
    run(grid, SecureAggregation(FedAvg()))
    from protocols.pairwise import Memory

    secrets = {m.s_secret for m in map(Memory.from_bytes, kept)} | {m.b for m in map(Memory.from_bytes, kept)}
    secrets.discard(b"")
    assert len(secrets) == 3 * 2 * 2  # clients, kinds of secret, train and evaluate
    passed = b"".join(
        array.data
        for message in grid.seen
        for record in message.content.array_records.values()
        for array in record.values()
    )
    assert not any(secret in passed for secret in secrets)
    for context in grid.contexts.values():
        for record in context.state.config_records.values():
            assert Memory.from_bytes(record["memory"]) == Memory(
                exchange=Memory.from_bytes(record["memory"]).exchange
            )


def average_of(values, nodes):
    weights = {node: values(node)[0] for node in nodes}
    total = sum(weights.values())
    return sum(values(node)[1]["double"] * weights[node] for node in nodes) / total


STEPS = ("advertise", "share", "mask", "unmask")


@pytest.mark.parametrize("how", ["crash", "silence"])
@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_fails_at_a_step_leaves_the_right_average(loop_grid, simple_app, values, step, how):
    grid = loop_grid(simple_app(mod), 4)

    def fail(message, node):
        if node == 102 and at_step(message, step):
            if how == "crash":
                raise OSError("the disk is full")
            return None
        return message

    grid.hook = fail
    result = run(grid, SecureAggregation(FedAvg()))
    left = [100, 101, 103] if step != "unmask" else [100, 101, 102, 103]
    np.testing.assert_allclose(result.arrays["double"].numpy(), average_of(values, left), atol=1e-7)


def test_in_the_next_round_the_client_is_back(loop_grid, simple_app, values):
    grid, failed = loop_grid(simple_app(mod), 4), []

    def fail(message, node):
        if node == 102 and at_step(message, "mask") and not failed:
            failed.append(node)
            raise OSError("once")
        return message

    grid.hook = fail
    result = run(grid, SecureAggregation(FedAvg()), 2)
    assert failed == [102]
    np.testing.assert_allclose(result.arrays["double"].numpy(), average_of(values, grid.contexts), atol=1e-7)


@pytest.mark.parametrize("step", STEPS)
def test_fewer_than_the_threshold_leave_the_model_as_it_was(loop_grid, simple_app, step, caplog):
    grid = loop_grid(simple_app(mod), 4)
    grid.hook = lambda message, node: None if node in (101, 102) and at_step(message, step) else message
    with caplog.at_level(logging.INFO, logger="flwr"):
        logging.getLogger("flwr").addHandler(caplog.handler)
        result = run(grid, SecureAggregation(FedAvg()))
        logging.getLogger("flwr").removeHandler(caplog.handler)
    assert not result.train_metrics_clientapp
    assert len(result.arrays or {}) == 0
    assert "Only 2 clients" in caplog.text
    assert "3 are needed" in caplog.text


def test_two_clients_are_too_few(loop_grid, simple_app, caplog):
    logging.getLogger("flwr").addHandler(caplog.handler)
    result = run(loop_grid(simple_app(mod), 2), SecureAggregation(FedAvg()))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert not result.train_metrics_clientapp
    assert "at least 3 clients" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["arrays"].update({"double": Array(np.full(5, np.nan))}),
        lambda content: content["arrays"].update({"double": Array(np.full(5, 1e9))}),
        lambda content: content["metrics"].update({"loss": float("inf")}),
        lambda content: content["metrics"].update({"num-examples": 10**9}),
        lambda content: content["metrics"].update({"num-examples": 0}),
        lambda content: content["metrics"].update({"num-examples": -1}),
        lambda content: content["metrics"].update({"num-examples": [1, 2]}),
        lambda content: content["metrics"].update({"another": 1.0}),
        lambda content: content["metrics"].pop("num-examples"),
        lambda content: content["arrays"].update({"double": Array(np.zeros(6))}),
        lambda content: content["arrays"].pop("w"),
        lambda content: content.update({"more": MetricRecord({"num-examples": 1})}),
        lambda content: content.update({"more": ArrayRecord()}),
    ],
)
def test_a_client_whose_reply_cannot_be_added_leaves_and_the_others_average(
    loop_grid, simple_app, values, change
):
    app = simple_app(mod, change=lambda content, node: change(content) if node == 101 else None)
    result = run(loop_grid(app, 4), SecureAggregation(FedAvg()))
    np.testing.assert_allclose(
        result.arrays["double"].numpy(), average_of(values, [100, 102, 103]), atol=1e-7
    )


@pytest.mark.parametrize("layout", ["f4,(", "nonsense", None])
def test_what_one_client_writes_into_its_layout_costs_it_its_turn(loop_grid, simple_app, values, layout):
    place = ArrayPlace(name="w", dtype=layout or "", shape=[1])
    written = Layout(arrays_name="arrays", metrics_name="metrics", arrays=[place], metrics=[]).to_bytes()
    grid = loop_grid(simple_app(mod), 4)
    evil = written_by(102, "mask", lambda masked, _: [masked, b"\xff" if layout is None else written])
    grid.app = evil(grid.app)
    result = run(grid, SecureAggregation(FedAvg()))
    np.testing.assert_allclose(
        result.arrays["double"].numpy(), average_of(values, [100, 101, 103]), atol=1e-7
    )


def test_the_layout_of_fewer_than_the_threshold_is_not_read(loop_grid, simple_app, monkeypatch, caplog):
    """One client alone is left to say what the layout is, since the others could not open its shares."""
    grid = loop_grid(simple_app(mod), 4)
    grid.hook = lambda message, node: None if node != 102 and at_step(message, "mask") else message
    monkeypatch.setattr(Layout, "from_bytes", lambda _data: pytest.fail("It is read."))
    logging.getLogger("flwr").addHandler(caplog.handler)
    result = run(grid, SecureAggregation(FedAvg(fraction_evaluate=0.0)))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert not result.train_metrics_clientapp
    assert "Only 1 clients sent a masked vector of one layout, 3 are needed" in caplog.text


SMALL = {"width": 32, "bound": 8, "max_weight": 1000}


@pytest.mark.parametrize(
    ("weights", "entries", "options"),
    [
        ([0.3] * 4, [60000.0] * 4, {}),
        ([0.01] * 4, [1.0] * 4, SMALL),
        ([0.2, 0.25, 0.3, 0.25], [1.0, 2.0, 3.0, 4.0], SMALL),
        ([12, 7, 30, 999], [1.0, -2.0, 8.0, -8.0], SMALL),
    ],
)
def test_weights_that_are_no_integers_give_the_average_too(loop_grid, simple_app, weights, entries, options):
    """Within half a unit of the ring for each client, divided by the mean weight, and the weights' own rounding."""

    def change(content, node):
        content["metrics"].update({"num-examples": weights[node - 100]})
        content["arrays"].update({"double": Array(np.full(5, entries[node - 100]))})
        del content["arrays"]["count"]  # the number of the node is beyond the small bound

    result = run(
        loop_grid(simple_app(mod, change=change), 4),
        SecureAggregation(FedAvg(fraction_evaluate=0.0), **options),
    )
    unit = Plan(
        weight="",
        bound=float(options.get("bound", 2**16)),
        max_weight=float(options.get("max_weight", 2**20)),
        cohort=4,
        work=b"",
    )
    unit = unit.encoding(options.get("width", 64)).resolution
    mean = sum(weights) / 4
    exact = sum(n * u for n, u in zip(weights, entries, strict=True)) / sum(weights)
    spread = max(abs(u - exact) for u in entries)
    # A weight that is off by half a unit moves the average towards its own entry, by no more than the spread.
    tolerance = 1.01 * unit * (1 + spread) / mean
    np.testing.assert_allclose(result.arrays["double"].numpy(), exact, atol=tolerance, rtol=0)


def test_weights_that_are_rounded_to_nothing_are_refused(loop_grid, simple_app, caplog):
    change = lambda content, node: content["metrics"].update({"num-examples": 1e-9})  # noqa: E731
    logging.getLogger("flwr").addHandler(caplog.handler)
    result = run(loop_grid(simple_app(mod, change=change), 4), SecureAggregation(FedAvg()))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert not result.train_metrics_clientapp
    assert "is rounded to nothing" in caplog.text


@pytest.mark.parametrize(("weight", "entry"), [(1.0, 6e10), (-200.0, 6e10), (-(10**6), 0.0)])
def test_a_client_that_sends_what_it_may_not_ends_the_round(
    loop_grid, simple_app, monkeypatch, caplog, weight, entry
):
    """Its own mod is another: the vector that it masks is beyond every bound."""
    grid, real, asked = loop_grid(simple_app(mod), 4), client_mod.pack, []
    grid.hook = lambda message, node: asked.append(node) or message

    def other(*arguments):
        layout, vector = real(*arguments)
        return layout, np.array([weight, *[entry] * (vector.size - 1)]) if asked[-1] == 102 else vector

    monkeypatch.setattr(client_mod, "pack", other)
    logging.getLogger("flwr").addHandler(caplog.handler)
    result = run(grid, SecureAggregation(FedAvg(fraction_evaluate=0.0)))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert not result.train_metrics_clientapp
    assert "beyond what the agreed bounds allow" in caplog.text


def test_a_refusal_says_nothing_of_the_value(loop_grid, simple_app):
    app = simple_app(
        mod, change=lambda content, node: content["arrays"].update({"double": Array(np.full(5, 123456.5))})
    )
    grid = loop_grid(app, 3)
    run(grid, SecureAggregation(FedAvg()))
    reasons = [message.error.reason for message in grid.seen if message.has_error()]
    assert len(reasons) == 3
    assert set(reasons) == {NOT_AS_AGREED}


def test_metrics_in_another_order_are_averaged_with_the_others(loop_grid, simple_app, values):
    def change(content, node):
        if node == 101:
            content["metrics"] = MetricRecord(dict(reversed(content["metrics"].items())))

    grid = loop_grid(simple_app(mod, change=change), 4)
    result = run(grid, SecureAggregation(FedAvg()))
    np.testing.assert_allclose(result.arrays["double"].numpy(), average_of(values, grid.contexts), atol=1e-7)


def test_the_log_says_what_a_client_has_otherwise(loop_grid, simple_app, caplog):
    def change(content, node):
        if node == 101:
            content["arrays"] = ArrayRecord(dict(reversed(content["arrays"].items())))
        if node == 102:
            content["metrics"].update({"\x1b[2Jextra": 1.0})

    logging.getLogger("flwr").addHandler(caplog.handler)
    run(loop_grid(simple_app(mod, change=change), 5), SecureAggregation(FedAvg(), threshold=3))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert "array 'double' (<f8, [5]) in place of array 'w' (<f4, [3, 4])" in caplog.text
    assert "[2Jextra' (a number) in place of metric 'loss'" in caplog.text
    assert "\x1b[2J" not in caplog.text


def raises(error):
    def change(content, node):
        raise error

    return change


@pytest.mark.parametrize(
    "change",
    [
        raises(ValueError("patient 4711 has no label")),
        raises(
            EncodingError("patient 4711 has no label")
        ),  # of a class that the mod itself tells the server of
        raises(SecAggError("patient 4711 has no label")),
        lambda content, node: content["arrays"].update(
            {"double": Array("float64", (3,), "patient 4711", b"")}
        ),
    ],
)
def test_what_fails_in_the_app_is_told_to_the_client_alone(loop_grid, simple_app, caplog, change):
    grid = loop_grid(simple_app(mod, change=change), 3)
    logging.getLogger("flwr").addHandler(caplog.handler)
    run(grid, SecureAggregation(FedAvg(fraction_evaluate=0.0)))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    reasons = [message.error.reason for message in grid.seen if message.has_error()]
    assert reasons == [NOT_AS_AGREED] * 3
    assert "4711" in caplog.text


def test_control_without_the_mod_flower_tells_the_server(loop_grid, simple_app):
    grid = loop_grid(simple_app(change=raises(ValueError("patient 4711 has no label"))), 3)
    run(grid, FedAvg(fraction_evaluate=0.0))
    reasons = [message.error.reason for message in grid.seen if message.has_error()]
    assert reasons == ["patient 4711 has no label"] * 3


def test_an_inner_mods_error_is_told_to_the_client_alone(loop_grid, simple_app):
    def refusing(sent, place, call_next):
        return Message(Error(1, "patient 4711 has no label"), reply_to=sent)

    grid = loop_grid(simple_app(mod, refusing), 3)
    run(grid, SecureAggregation(FedAvg(fraction_evaluate=0.0)))
    assert [m.error.reason for m in grid.seen if m.has_error()] == [NOT_AS_AGREED] * 3


def test_what_a_reply_holds_beside_arrays_and_metrics_is_dropped(loop_grid, simple_app):
    app = simple_app(
        mod, change=lambda content, node: content.update({"notes": ConfigRecord({"patient": "Jane"})})
    )
    grid = loop_grid(app, 3)
    assert run(grid, SecureAggregation(FedAvg())).train_metrics_clientapp
    assert not any("notes" in message.content for message in grid.seen)


def test_queries_pass_through(loop_grid, simple_app):
    strategy = SecureAggregation(FedAvg())
    grid = SecureGrid(loop_grid(simple_app(mod), 3), strategy.settings)
    replies = grid.send_and_receive([Message(RecordDict(), 101, "query")])
    assert [reply.content["metrics"]["node"] for reply in replies] == [101]


def test_starting_twice_in_a_run_is_fine(loop_grid, simple_app):
    grid = loop_grid(simple_app(mod), 3)
    for _ in range(2):
        assert run(grid, SecureAggregation(FedAvg())).train_metrics_clientapp


def test_the_threshold_can_be_chosen(loop_grid, simple_app, values):
    grid = loop_grid(simple_app(mod), 5)
    grid.hook = lambda message, node: None if node in (103, 104) and at_step(message, "mask") else message
    result = run(grid, SecureAggregation(FedAvg(), threshold=3))
    np.testing.assert_allclose(
        result.arrays["double"].numpy(), average_of(values, [100, 101, 102]), atol=1e-7
    )


@pytest.mark.parametrize(
    "strategy",
    [
        lambda: strategies.FedMedian(),
        lambda: strategies.Krum(),
        lambda: strategies.Bulyan(),
        lambda: strategies.FedTrimmedAvg(),
        lambda: strategies.QFedAvg(q=0.1, client_learning_rate=0.1),
        lambda: strategies.FedXgbBagging(),
        lambda: strategies.DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 3),
    ],
)
def test_strategies_that_need_each_reply_are_refused(strategy):
    with pytest.raises(SecAggError, match="needs each client's reply"):
        SecureAggregation(strategy())


@pytest.mark.parametrize(
    "options", [{"width": 16}, {"bound": 0.5}, {"max_weight": -1}, {"bound": float("inf")}]
)
def test_bounds_that_do_not_fit_are_refused(options):
    with pytest.raises(EncodingError):
        SecureAggregation(FedAvg(), **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"threshold": 3.0}, "threshold must be a whole number"),
        ({"threshold": "3"}, "threshold must be a whole number"),
        ({"threshold": 2}, "at least 3"),
        ({"threshold": True}, "at least 3"),
        ({"width": 64.0}, "width must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused_where_they_are_given(options, match):
    with pytest.raises(SecAggError, match=match):
        SecureAggregation(FedAvg(), **options)


def test_numpys_integers_are_whole_numbers(loop_grid, simple_app):
    strategy = SecureAggregation(FedAvg(), threshold=np.int64(3), width=np.int32(64))
    assert run(loop_grid(simple_app(mod), 4), strategy).train_metrics_clientapp


@pytest.mark.parametrize("end", [lambda pinned: SecureAggregation(FedAvg(), pinned=pinned),
                                 lambda pinned: SecureMod(pinned=pinned, **OWN)])  # fmt: skip
def test_pinned_keys_that_are_none_are_refused_at_both_ends(end):
    keys = {f"hospital-{k}": SigningKey.generate().public for k in range(3)}
    end(keys)
    for wrong in ({**keys, "hospital-0": keys["hospital-0"].hex()}, {**keys, "again": keys["hospital-0"]}):
        with pytest.raises(EncodingError, match=r"not 32 bytes|same key"):
            end(wrong)


# -- pinned keys ------------------------------------------------------------------------------------------------------

OWN = {"weight": "num-examples", "bound": 2.0**16, "max_weight": 2.0**20, "width": 64}
"""What a client with pinned keys sets itself: here the defaults of ``SecureAggregation``."""


@pytest.fixture
def pinned(tmp_path):
    keys = [SigningKey.generate() for _ in range(4)]
    for k, key in enumerate(keys):
        folder = tmp_path / f"node-{k}"
        folder.mkdir()
        (folder / "key").write_bytes(key.private_bytes())
        (folder / "key").chmod(0o600)

    def config(k):
        return {"secagg-name": f"hospital-{k}", "secagg-key": str(tmp_path / f"node-{k}" / "key")}

    return {f"hospital-{k}": key.public for k, key in enumerate(keys)}, config


def test_with_pinned_keys_the_average_is_the_same(loop_grid, simple_app, values, pinned):
    publics, config = pinned
    grid = loop_grid(simple_app(SecureMod(pinned=publics, **OWN)), 4, config)
    result = run(grid, SecureAggregation(FedAvg(), pinned=publics), 2)
    np.testing.assert_allclose(result.arrays["double"].numpy(), average_of(values, grid.contexts), atol=1e-7)


def test_with_pinned_keys_a_client_that_does_not_agree_is_still_in_the_sum(
    loop_grid, simple_app, values, pinned
):
    publics, config = pinned
    grid = loop_grid(simple_app(SecureMod(pinned=publics, **OWN)), 4, config)
    grid.hook = lambda message, node: None if node == 101 and at_step(message, "agree") else message
    result = run(grid, SecureAggregation(FedAvg(), pinned=publics))
    np.testing.assert_allclose(result.arrays["double"].numpy(), average_of(values, grid.contexts), atol=1e-7)


def test_with_pinned_keys_an_unsigned_server_gets_nothing(loop_grid, simple_app, pinned):
    publics, config = pinned
    grid = loop_grid(simple_app(SecureMod(pinned=publics, **OWN)), 4, config)
    assert not run(grid, SecureAggregation(FedAvg())).train_metrics_clientapp


@pytest.mark.parametrize(
    "options",
    [{"max_weight": 50.0}, {"bound": 2.0}, {"max_weight": 2.0**21}, {"width": 32}, {}],
)
def test_the_server_cannot_search_for_a_clients_numbers_with_bounds_of_its_own(
    loop_grid, simple_app, pinned, options
):
    publics, config = pinned
    trained = []
    app = simple_app(SecureMod(pinned=publics, **OWN), change=lambda content, node: trained.append(node))
    grid = loop_grid(app, 4, config)
    run(grid, SecureAggregation(FedAvg(), pinned=publics, **options))
    assert len(set(trained)) == (0 if options else 4)  # the control: the bounds that are the client's too
    reasons = {message.error.reason for message in grid.seen if message.has_error()}
    assert reasons == (
        {"The terms have another weight, bound or width than this client's."} if options else set()
    )


def weights_in_a_coarse_ring(monkeypatch, loop_grid, app, publics, config):
    """The sum of weights of a server that counts so many clients that the ring's unit is 128."""
    most = (2**63 - 1) // math.ceil(OWN["bound"] * OWN["max_weight"] / 128)
    monkeypatch.setattr(exchange_module, "Plan", lambda **plan: Plan(**{**plan, "cohort": most}))
    grid = loop_grid(app, 4, config)
    result = run(grid, SecureAggregation(FedAvg(fraction_train=0.0), pinned=publics))
    reasons = {message.error.reason for message in grid.seen if message.has_error()}
    return result.evaluate_metrics_clientapp, reasons


def weighing(mods, weights):
    app = ClientApp(mods=[mods])

    @app.evaluate()
    def evaluate(message, context):
        metrics = {"loss": 1.0, "num-examples": weights[context.node_id - 100]}
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    return app


def test_the_server_cannot_make_the_ring_coarse(loop_grid, pinned, monkeypatch):
    publics, config = pinned
    metrics, reasons = weights_in_a_coarse_ring(
        monkeypatch, loop_grid, weighing(SecureMod(pinned=publics, **OWN), [500] * 4), publics, config
    )
    assert not metrics
    [reason] = reasons
    assert "only 4 have a key that is pinned" in reason


def test_control_in_a_coarse_ring_rounding_tells_of_single_weights(loop_grid, pinned, monkeypatch):
    """Both cohorts have 2,000 examples; the sums of the rounded weights differ."""
    publics, config = pinned

    class Unchecked(SecureMod):
        def _checked(self, terms, context, purpose):
            return terms

    mods, seen = Unchecked(pinned=publics, **OWN), []
    real = exchange_module.unpack
    monkeypatch.setattr(
        exchange_module, "unpack", lambda layout, total, w: seen.append(total[0]) or real(layout, total, w)
    )
    for weights in ([180, 820, 500, 500], [500] * 4):
        weights_in_a_coarse_ring(monkeypatch, loop_grid, weighing(mods, weights), publics, config)
    assert seen == [15 * 128, 16 * 128]


@pytest.mark.parametrize("missing", OWN)
def test_pinned_keys_want_the_clients_own_bounds(pinned, missing):
    given = {name: value for name, value in OWN.items() if name != missing}
    with pytest.raises(SecAggError, match=missing):
        SecureMod(pinned=pinned[0], **given)


def test_clients_whose_keys_lie_in_one_folder_do_not_block_each_other(
    loop_grid, simple_app, values, pinned, tmp_path
):
    publics, config = pinned

    def together(k):
        key = tmp_path / f"key-{k}"
        (tmp_path / f"node-{k}" / "key").rename(key)
        return {**config(k), "secagg-key": str(key)}

    grid = loop_grid(simple_app(SecureMod(pinned=publics, **OWN)), 4, together)
    result = run(grid, SecureAggregation(FedAvg(), pinned=publics))
    np.testing.assert_allclose(result.arrays["double"].numpy(), average_of(values, grid.contexts), atol=1e-7)


@pytest.mark.parametrize("step", mail.STEPS)
def test_a_step_that_two_processes_answer_at_once_is_answered_once(loop_grid, simple_app, pinned, step):
    """The server sends a step twice at once: both processes begin with the same context."""
    from copy import deepcopy

    publics, config = pinned
    answers = {}
    for mods in (SecureMod(pinned=publics, **OWN), mod):
        signed = mods is not mod
        grid = loop_grid(simple_app(mods), 4, config if signed else (lambda k: {}))
        outcome = answers[signed] = []

        def twice(message, node, grid=grid, outcome=outcome):
            if node == 101 and at_step(message, step):
                state = deepcopy(grid.contexts[node].state)
                first = grid.app(deepcopy(message), grid.contexts[node])
                grid.contexts[node].state = state
                second = grid.app(deepcopy(message), grid.contexts[node])
                outcome += [first.has_error(), second.has_error()]
                return None
            return message

        grid.hook = twice
        run(grid, SecureAggregation(FedAvg(), pinned=publics if signed else None))
    assert answers[True] == [False, True]
    # The control: without pinned keys, where the server is believed to follow the protocol, both are answered.
    assert answers[False] == ([] if step == mail.AGREE else [False, False])


@pytest.mark.parametrize("fault", [0o644, 0o640, 0o604, 0o602, "missing", "no name", "no file", "another's"])
def test_a_signing_key_that_cannot_be_used_is_refused(loop_grid, simple_app, pinned, tmp_path, fault):
    publics, config = pinned

    def faulty(k):
        settings = config(k)
        if fault == "no name":
            del settings["secagg-name"]
        if fault == "no file":
            del settings["secagg-key"]
        if fault == "another's":
            settings["secagg-name"] = f"hospital-{(k + 1) % 4}"
        return settings

    for k in range(4):
        key = tmp_path / f"node-{k}" / "key"
        if isinstance(fault, int):
            key.chmod(fault)
        if fault == "missing":
            key.unlink()
    grid = loop_grid(simple_app(SecureMod(pinned=publics, **OWN)), 4, faulty)
    assert not run(grid, SecureAggregation(FedAvg(), pinned=publics)).train_metrics_clientapp
    assert {message.has_error() for message in grid.seen} == {False, True}


@pytest.mark.parametrize("fault", ["none", "keys", "another's name", "agreement"])
def test_a_client_whose_signature_is_wrong_leaves_alone_and_under_its_own_number(
    loop_grid, simple_app, values, pinned, caplog, fault
):
    publics, config = pinned
    grid = loop_grid(simple_app(SecureMod(pinned=publics, **OWN)), 4, config)

    def forged(data):
        if fault == "agreement":
            return Agreement.from_bytes(data).model_copy(update={"signature": bytes(64)})
        keys = SignedKeys.from_bytes(data)
        if fault == "keys":
            return keys.model_copy(update={"signature": bytes(64)})
        return keys.model_copy(update={"keys": keys.keys.model_copy(update={"name": "hospital-0"})})

    if fault != "none":
        step = "agree" if fault == "agreement" else "advertise"
        grid.app = written_by(103, step, lambda data: [forged(data).to_bytes()])(grid.app)
    logging.getLogger("flwr").addHandler(caplog.handler)
    result = run(grid, SecureAggregation(FedAvg(fraction_evaluate=0.0), pinned=publics), 2)
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert set(result.train_metrics_clientapp) == {1, 2}
    left = [100, 101, 102] + [103] * (fault in ("none", "agreement"))
    np.testing.assert_allclose(result.arrays["double"].numpy(), average_of(values, left), atol=1e-7)
    leaving = {line.split("Node ")[1][:3] for line in caplog.text.splitlines() if "leaves" in line}
    assert leaving == (set() if fault == "none" else {"103"})
    assert {message.has_error() for message in grid.seen} == {False}


def test_a_client_that_has_no_pinned_key_yet_leaves_and_the_others_have_their_sum(
    loop_grid, simple_app, values, pinned
):
    """Five are asked, four have keys that are pinned."""
    publics, config = pinned
    fifth = {**publics, "hospital-4": SigningKey.generate().public}
    apps = [simple_app(SecureMod(pinned=keys, **OWN)) for keys in (publics, fifth)]
    grid = loop_grid(None, 5, lambda k: config(k) if k < 4 else {**config(0), "secagg-name": "hospital-4"})
    grid.app = lambda message, context: apps[context.node_id == 104](message, context)
    result = run(grid, SecureAggregation(FedAvg(), pinned=publics))
    np.testing.assert_allclose(
        result.arrays["double"].numpy(), average_of(values, [100, 101, 102, 103]), atol=1e-7
    )
