import pytest

from protocols.pairwise import TooFewError
from securefl.bench.secagg import measure_secagg


def test_an_exchange_is_measured_and_its_sum_checked():
    figures = measure_secagg(2000, 5, lost=1, width=32)
    assert figures["threshold"] == 4
    # y_u has 4 bytes an entry; the rest is keys and shares, and does not grow with the vector.
    assert 8000 < figures["client_sent_bytes"] < 8000 + 4000
    more = measure_secagg(4000, 5, lost=1, width=32)
    assert abs(more["client_sent_bytes"] - figures["client_sent_bytes"] - 8000) < 16
    assert figures["client_cpu_seconds"] > 0 < figures["server_cpu_seconds"]


def test_too_many_lost_clients_are_told():
    with pytest.raises(TooFewError):
        measure_secagg(10, 4, lost=2)
