import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import EncodingError
from protocols.ring import signed
from securefl.secagg import Plan, SecAggError
from securefl.secagg.vector import (
    NOT_AS_AGREED,
    ArrayPlace,
    Layout,
    MetricPlace,
    check_sum,
    pack,
    told_here_only,
    unpack,
)

PLAN = Plan(weight="n", bound=100.0, max_weight=1000.0, cohort=5, work=bytes(32))
UNIT = PLAN.encoding(64).resolution


def reply(n, arrays, **metrics):
    return RecordDict(
        {
            "arrays": ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()}),
            "metrics": MetricRecord({"n": n, **metrics}),
        }
    )


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(-100, 100)), min_size=1, max_size=5))
def test_the_average_is_that_of_exact_numbers(clients):
    from fractions import Fraction

    total = None
    for n, x in clients:
        layout, vector = pack(
            reply(n, {"a": [[x, 1.0]]}, loss=x, each=[x, 0.0], none=[]), PLAN, "train", UNIT
        )
        total = vector if total is None else total + vector
    weight = sum(n for n, _ in clients)
    exact = float(sum(Fraction(x) * n for n, x in clients) / weight)
    content = unpack(Layout.from_bytes(layout.to_bytes()), total, "n")
    metrics = content["metrics"]
    assert metrics["n"] == weight
    assert metrics["loss"] == pytest.approx(exact, abs=1e-9)
    assert metrics["each"] == pytest.approx([exact, 0.0], abs=1e-9)
    assert metrics["none"] == []
    assert content["arrays"]["a"].numpy().tolist() == [[pytest.approx(exact, abs=1e-9), pytest.approx(1.0)]]


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [("f2", "f2"), ("f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("u1", "f8"), ("?", "f8")],
)
def test_floats_keep_their_type_and_others_become_float64(dtype, becomes):
    layout, vector = pack(reply(2, {"a": np.ones((2, 3), dtype=dtype)}), PLAN, "train", UNIT)
    array = unpack(layout, vector, "n")["arrays"]["a"].numpy()
    assert array.dtype == np.dtype(becomes)
    assert array.tolist() == np.ones((2, 3)).tolist()


def test_scalars_and_empty_arrays_have_their_place():
    layout, vector = pack(
        reply(2, {"a": np.float32(3), "b": np.zeros((0, 4)), "c": [5.0]}), PLAN, "train", UNIT
    )
    assert layout.size() == vector.size == 3
    arrays = unpack(layout, vector, "n")["arrays"]
    assert [arrays[name].numpy().shape for name in "abc"] == [(), (0, 4), (1,)]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (reply(0, {"a": [1.0]}), "above 0"),
        (reply(1001, {"a": [1.0]}), "at most 1000"),
        (reply(float("nan"), {"a": [1.0]}), "above 0"),
        (reply([1], {"a": [1.0]}), "one number"),
        (reply(1, {"a": [100.001]}), "beyond the agreed bound"),
        (reply(1, {"a": [np.inf]}), "beyond the agreed bound"),
        (reply(1, {"a": [np.nan, 1.0]}), "not a number"),
        (reply(1, {"a": [1.0]}, loss=101.0), "beyond the agreed bound"),
        (reply(1, {"a": np.ones(2, dtype=complex)}), "not real numbers"),
        (RecordDict({"metrics": MetricRecord({"n": 1})}), "1 ArrayRecord"),
        (RecordDict({"arrays": ArrayRecord()}), "1 MetricRecord"),
    ],
)
def test_replies_that_cannot_be_added_are_refused_and_which_check_failed_stays_here(content, match, told):
    with pytest.raises(SecAggError) as refused, told_here_only():
        pack(content, PLAN, "train", UNIT)
    assert str(refused.value) == NOT_AS_AGREED
    assert match in told.text


def test_what_is_beyond_the_bound_is_named_in_the_clients_own_log(told):
    counted = {"bn.weight": np.ones(3), "bn.num_batches_tracked": np.array(101, dtype=np.int64)}
    for content, name in (
        (reply(1, counted), "array bn.num_batches_tracked"),
        (reply(1, {"a": [1.0]}, loss=1.0, each=[1.0, 1e9]), "metric each"),
        (reply(1, {"a": [1.0]}, loss=float("nan")), "metric loss"),
    ):
        told.clear()
        with pytest.raises(SecAggError) as refused, told_here_only():
            pack(content, PLAN, "train", UNIT)
        assert f"An entry of the {name} is not a number, or beyond" in told.text
        assert str(refused.value) == NOT_AS_AGREED


def test_metrics_may_come_in_any_order():
    layouts, vectors = zip(
        *(pack(reply(2, {"a": [1.0]}, **metrics), PLAN, "train", UNIT) for metrics in
          ({"x": 1.0, "y": [2.0, 3.0]}, {"y": [2.0, 3.0], "x": 1.0})),
        strict=True,
    )  # fmt: skip
    assert layouts[0] == layouts[1]
    assert vectors[0].tolist() == vectors[1].tolist() == [2, 2, 2, 4, 6]
    assert unpack(layouts[0], vectors[0], "n")["metrics"] == {"n": 2.0, "x": 1.0, "y": [2.0, 3.0]}


def layout_of(arrays, **metrics):
    return pack(reply(2, arrays, **metrics), PLAN, "train", UNIT)[0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (layout_of({"a": [1.0], "b": [1.0]}, x=1.0), ""),
        (
            layout_of({"b": [1.0], "a": [1.0]}, x=1.0),
            "array 'b' (<f8, [1]) in place of array 'a' (<f8, [1])",
        ),
        (
            layout_of({"a": np.ones(1, dtype="f4"), "b": [1.0]}, x=1.0),
            "array 'a' (<f4, [1]) in place of array 'a' (<f8, [1])",
        ),
        (layout_of({"a": [1.0]}, x=1.0), "nothing in place of array 'b' (<f8, [1])"),
        (
            layout_of({"a": [1.0], "b": [1.0]}, x=[1.0]),
            "metric 'x' (a list of 1) in place of metric 'x' (a number)",
        ),
        (
            layout_of({"a": [1.0], "b": [1.0]}, x=1.0, y=1.0),
            "metric 'y' (a number) in place of nothing",
        ),
    ],
)
def test_the_first_difference_is_named(other, said):
    one = layout_of({"a": [1.0], "b": [1.0]}, x=1.0)
    assert one.difference(other) == said
    named = one.model_copy(update={"metrics_name": "m"})
    assert one.difference(named) == "records ('arrays', 'm') in place of ('arrays', 'metrics')"


def test_an_evaluation_has_no_arrays():
    with pytest.raises(SecAggError, match="0 ArrayRecord"):
        pack(reply(1, {"a": [1.0]}), PLAN, "evaluate", UNIT)


@pytest.fixture
def told(caplog):
    """What the client's own log says; Flower's logger passes nothing on."""
    logger = logging.getLogger("flwr")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    "array",
    [
        ("V8", [1]),
        ("O", [1]),
        ("nonsense", [1]),
        ("f4,(", [1]),  # over these two NumPy's parser raises SyntaxError and ValueError
        ("(2,2f4", [1]),
        ("f4, f4", [1]),
        ("m8", [1]),
        ("c8", [1]),
        ("f4\n", [1]),
        ("f4", [-1]),
        ("f4", [2**40]),
        ("f4", [2**20, 2**20]),
        ("f4", [2**40, 0]),
        ("f4", [2**31, 2**31, 0]),
        ("f4", [1] * 65),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(array):
    dtype, shape = array
    place = ArrayPlace(name="a", dtype=dtype, shape=shape)
    with pytest.raises(SecAggError):
        Layout(arrays_name="a", metrics_name="m", arrays=[place], metrics=[]).check()
    with pytest.raises(SecAggError):
        Layout(
            arrays_name="", metrics_name="m", arrays=[], metrics=[MetricPlace(name="x", length=-2)]
        ).check()


def test_every_array_that_numpy_makes_of_a_layout_can_be_made():
    """The largest that pass: nothing that is left to NumPy can raise."""
    for shape in ([1] * 64, [2**32, 0], [2**16, 2**16, 0], [0] * 64):
        place = ArrayPlace(name="a", dtype="<f4", shape=shape)
        layout = Layout(arrays_name="a", metrics_name="m", arrays=[place], metrics=[])
        layout.check()
        assert unpack(layout, np.ones(layout.size()), "n")["a"]["a"].numpy().shape == tuple(shape)


def test_a_long_shape_is_not_multiplied_out(monkeypatch):
    """Its product would have 16 million bits."""
    place = ArrayPlace(name="a", dtype="<f4", shape=[2**32] * 500_000)
    monkeypatch.setattr("math.prod", lambda _shape: pytest.fail("The product is computed."))
    with pytest.raises(SecAggError):
        Layout(arrays_name="a", metrics_name="m", arrays=[place], metrics=[]).check()


@given(st.floats(2.0**-9, 1000), st.floats(-100, 100), st.sampled_from([2.0**-8, 1.0, 3.0 / 4, 64.0]))
def test_the_weight_is_rounded_before_it_multiplies(n, x, unit):
    if round(n / unit) == 0:
        with pytest.raises(SecAggError, match="rounded to nothing"):
            pack(reply(n, {"a": [x]}), PLAN, "train", unit)
        return
    _, (weight, entry) = pack(reply(n, {"a": [x]}), PLAN, "train", unit)
    assert (weight / unit).is_integer()
    assert abs(weight - n) <= unit
    assert 0 < weight <= PLAN.max_weight
    assert entry == weight * x


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(-100, 100)), min_size=1, max_size=5))
def test_sums_of_what_clients_may_send_pass(clients):
    encoding, total = PLAN.encoding(32), 0
    for n, x in clients:
        _, vector = pack(reply(n, {"a": [x, 100.0, -100.0]}), PLAN, "train", encoding.resolution)
        total = total + signed(encoding.encode(vector))
    check_sum(encoding.decode_sum(total), PLAN, len(clients), encoding.resolution)


@pytest.mark.parametrize(
    "total",
    [
        [0.0, 0.0],
        [-1.0, 0.0],
        [float("nan"), 0.0],
        [2000.01, 0.0],
        [20.0, 2000.1],
        [20.0, -2000.1],
        [20.0, float("nan")],
        [UNIT, 100 * UNIT + 3 * UNIT],
    ],
)
def test_sums_that_clients_within_the_bounds_cannot_have_are_noticed(total):
    with pytest.raises(SecAggError, match="beyond what the agreed bounds allow"):
        check_sum(np.array(total), PLAN, 2, UNIT)


def test_control_sums_at_the_bounds_pass():
    for total in ([2000.0, 200000.0], [20.0, -2000.0], [UNIT, 100 * UNIT + 2 * UNIT], [5.0]):
        check_sum(np.array(total), PLAN, 2, UNIT)


def test_weights_that_add_up_to_nothing_have_no_average():
    layout, vector = pack(reply(1, {"a": [1.0]}), PLAN, "train", UNIT)
    with pytest.raises(SecAggError, match="no average"):
        unpack(layout, vector * 0, "n")


def test_the_largest_vectors_of_the_largest_cohort_do_not_overflow():
    for width in (32, 64):
        encoding = PLAN.encoding(width)
        assert encoding.limit * PLAN.cohort <= 2 ** (width - 1) - 1
        largest = encoding.encode(np.array([PLAN.bound * PLAN.max_weight, PLAN.max_weight]))
        total = sum(int(largest[0]) for _ in range(PLAN.cohort))
        assert total <= 2 ** (width - 1) - 1


@pytest.mark.parametrize(
    "change", [{"bound": 0.9}, {"max_weight": 0.0}, {"bound": float("nan")}, {"cohort": 0}]
)
def test_plans_without_sense_are_refused(change):
    with pytest.raises(EncodingError):
        PLAN.model_copy(update=change).encoding(64)
