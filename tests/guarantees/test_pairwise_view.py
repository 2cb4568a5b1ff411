"""What the server and up to t - 1 clients see of the others is independent of their vectors, given the sum.

The coalition is the server, which follows the protocol and keeps everything, and t - 1 of the clients. Of an honest
client's y_u it can take off the client's own mask (t shares of b_u are revealed to it) and the masks shared with the
corrupted clients and with those that left. What is left, the residual, is x_u plus the masks between honest clients:
the residuals must add up to the sum of the honest vectors (the coalition's computation is then complete) and each must
look uniform, for two sets of vectors with the same sum alike. Statistics have a false alarm rate of 10^-9 each; a run
of this file computes fewer than 10^3.

The controls are faults put into the real code: short mask keys, one scalar for a vector, a mask key used twice, both
secrets of a client revealed, no mask of one's own. In each the same coalition gets what it wants.
"""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2, norm

from protocols.pairwise import Client, Policy, Revealed, Server, Terms, default_threshold
from protocols.pairwise import client as client_module
from protocols.pairwise import keys as keys_module
from protocols.pairwise import masking as masking_module
from protocols.pairwise import server as server_module
from protocols.pairwise.keys import mask_seed
from protocols.pairwise.masking import add_own, add_pair
from protocols.pairwise.shamir import combine
from protocols.prg import Stream, ring_dtype, width_of
from protocols.ring import from_signed, signed

ALPHA = 1e-9
SIZE = 1 << 13
N = 5
T = default_threshold(N)
NAMES = [f"client-{k}" for k in range(N)]


class View:
    """One exchange, and all that the coalition holds of it."""

    def __init__(self, x, lost=(), corrupt=NAMES[:3], exchange=1, late=()):
        width = width_of(next(iter(x.values())))
        self.width, self.size = width, next(iter(x.values())).size
        terms = Terms(
            run="run", exchange=exchange, purpose="train", threshold=T, width=width, signed=False, details=b""
        )
        self.corrupt, self.honest = list(corrupt), [name for name in NAMES if name not in corrupt]
        clients = {name: Client(name, Policy()) for name in NAMES}
        server = Server(terms)
        for client in clients.values():
            server.advertised(client.advertise(terms))
        self.roster = server.roster()
        for name, client in clients.items():
            server.shared(name, client.share(self.roster))
        deliveries = server.deliveries()
        for name, client in clients.items():
            client.receive(deliveries[name])
        self.secrets = {name: clients[name].memory.s_secret for name in corrupt}
        self.own = {name: dict(clients[name].memory.own_shares) for name in corrupt}
        self.pair = {name: dict(clients[name].memory.pair_shares) for name in corrupt}
        self.y, self.late = {}, {}
        for name, client in clients.items():
            if name in late:  # it comes after the server has gone on, as any network can do it
                self.late[name] = client.mask(x[name]).y
            elif name not in lost:
                masked = client.mask(x[name])
                server.masked(name, masked)
                self.y[name] = masked.y
        survivors, agreements = server.survivors(), server.agreements()
        self.U3, self.gone = survivors.names, [name for name in NAMES if name not in survivors.names]
        for name in self.U3:
            revealed = clients[name].unmask(survivors, agreements)
            server.revealed(name, revealed)
            self.own[name] = {**self.own.get(name, {}), **revealed.own}
            self.pair[name] = {**self.pair.get(name, {}), **revealed.pair}
        self.total = server.total()

    def secret(self, shares, of):
        """What the coalition's shares of one client's secret come to: the secret if they are t, None if not."""
        held = {NAMES.index(name) + 1: kept[of] for name, kept in shares.items() if of in kept}
        return combine(held, T) if len(held) >= T else None

    def residual(self, u, y=None):
        """y_u without every mask that the coalition can compute."""
        digest = self.roster.digest()
        rest = np.frombuffer(self.y[u] if y is None else y, dtype=ring_dtype(self.width)).copy()
        b = self.secret(self.own, u)
        if b is not None:
            add_own(rest, b, digest, u, -1)
        for v in NAMES:
            known = self.secrets.get(v) or self.secret(self.pair, v)
            ours = self.secret(self.pair, u)
            if v != u and (known or ours):
                s = mask_seed(known or ours, digest, self.roster.of(u), self.roster.of(v))
                add_pair(rest, s, digest, u, v, -1)
        return rest


# -- statistics -------------------------------------------------------------------------------------------------------


def chi_square_alarm(counts, expected):
    statistic = float((np.square(counts - expected) / expected).sum())
    return not chi2.isf(1 - ALPHA / 2, counts.size - 1) < statistic < chi2.isf(ALPHA / 2, counts.size - 1)


def bytes_alarm(vector):
    columns = vector.view(np.uint8).reshape(vector.size, -1)
    return any(chi_square_alarm(np.bincount(c, minlength=256), vector.size / 256) for c in columns.T)


def bits_alarm(vector):
    bits = np.unpackbits(vector.view(np.uint8).reshape(vector.size, -1), axis=1)
    z = (bits.sum(axis=0) - vector.size / 2) / np.sqrt(vector.size / 4)
    return bool(np.abs(z).max() > norm.isf(ALPHA / 2))


def correlation_alarm(vector, x):
    a, b = signed(vector).astype(np.float64), signed(x).astype(np.float64)
    if not a.std() or not b.std():
        return False
    return bool(abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(a.size) > norm.isf(ALPHA / 2))


def homogeneity_alarm(first, second):
    table = np.array([np.bincount(v.view(np.uint8), minlength=256) for v in (first, second)])
    table = table[:, table.sum(axis=0) > 0]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float((np.square(table - expected) / expected).sum()) > chi2.isf(ALPHA, max(table.shape[1] - 1, 1))


def worlds(width, size=SIZE):
    """Two sets of vectors with the same sum over the two honest clients: zeros for both, and structure that cancels."""
    top = 0.4 * 2 ** (width - 1)
    steps = np.linspace(-top, top, size)
    steps[::5] = top
    structured = from_signed(steps, width)
    zeros = from_signed(np.zeros(size), width)
    others = {name: from_signed(np.full(size, 7), width) for name in NAMES}
    return (
        {**others, NAMES[3]: zeros, NAMES[4]: zeros.copy()},
        {**others, NAMES[3]: structured, NAMES[4]: -structured},
    )


def alarms(width, lost=(), **options):
    raised, seen = set(), []
    for x in worlds(width):
        view = View(x, lost=lost, **options)
        for u in view.honest:
            rest = view.residual(u)
            tests = {
                "bytes": bytes_alarm(rest),
                "bits": bits_alarm(rest),
                "differences": bytes_alarm(np.diff(rest)),
                "correlation": correlation_alarm(rest, x[u]),
            }
            raised |= {test for test, alarm in tests.items() if alarm}
        seen.append(view.residual(view.honest[0]))
    if homogeneity_alarm(*seen):
        raised.add("one world against the other")
    return raised


# -- the real protocol ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [16, 32, 64])
def test_what_the_coalition_sees_of_an_honest_client_looks_uniform(width):
    assert alarms(width) == set()


@pytest.mark.parametrize("lost", [(NAMES[0],), (NAMES[1],)])
def test_it_does_so_when_clients_leave(lost):
    assert alarms(32, lost) == set()


def test_the_coalition_computes_all_that_can_be_computed():
    """Its residuals add up to the honest clients' sum, so that no mask which it could take off is left on."""
    for x in worlds(32):
        for lost in ((), (NAMES[0],)):
            view = View(x, lost=lost)
            assert len(view.corrupt) == T - 1
            together = sum((view.residual(u) for u in view.honest), np.zeros(SIZE, dtype="<u4"))
            assert together.tolist() == sum(x[u] for u in view.honest).tolist()


def test_two_worlds_with_one_sum_give_the_same_total():
    first, second = (View(x).total.tolist() for x in worlds(32))
    assert first == second


def test_of_an_honest_client_in_the_sum_the_coalition_has_one_secret_only():
    view = View(worlds(32)[0])
    for u in view.honest:
        assert view.secret(view.own, u) is not None
        assert view.secret(view.pair, u) is None


def test_fewer_than_t_shares_do_not_hint_at_a_secret():
    view = View(worlds(32)[0])
    u = view.honest[0]
    held = {NAMES.index(name) + 1: kept[u] for name, kept in view.pair.items() if u in kept}
    assert len(held) == T - 1
    # Any secret fits the t - 1 shares: interpolating with a made-up t-th share gives another one each time.
    free = NAMES.index(u) + 1
    guesses = {combine({**held, free: bytes([k]) * 32}, T) for k in range(8)}
    assert len(guesses) == 8


def test_a_vector_that_comes_late_stays_hidden():
    """The server calls a client lost, has its s^SK reconstructed, and then its y_u comes after all."""
    raised = set()
    for x in worlds(32):
        view = View(x, late=(NAMES[4],))
        rest = view.residual(NAMES[4], view.late[NAMES[4]])
        assert view.secret(view.pair, NAMES[4]) is not None
        raised |= {bytes_alarm(rest), correlation_alarm(rest, x[NAMES[4]])}
    assert raised == {False}


def test_two_exchanges_have_nothing_in_common():
    x = worlds(32)[1]
    first, second = View(x, exchange=1), View(x, exchange=2)
    for u in first.honest:
        difference = first.residual(u) - second.residual(u)
        assert not bytes_alarm(difference)
        assert not bits_alarm(difference)


# -- controls: the same coalition on faulty code ----------------------------------------------------------------------


def test_control_one_scalar_for_a_vector_is_caught(monkeypatch):
    def add(vector, stream, sign):
        scalar = stream.ring_vector(1, width_of(vector))
        np.copyto(vector, vector + scalar if sign > 0 else vector - scalar)

    monkeypatch.setattr(masking_module, "_add", add)
    assert {"bytes", "differences", "one world against the other"} <= alarms(32)


def test_control_a_mask_key_that_is_used_twice_is_caught(monkeypatch):
    def same_every_time(secret, roster, u, v):
        first, second = sorted((u.name, v.name))
        return (first + second).encode().ljust(32, b"\0")

    for module in (client_module, server_module):
        monkeypatch.setattr(module, "mask_seed", same_every_time)
    monkeypatch.setitem(globals(), "mask_seed", same_every_time)
    # The expansion is bound to the roster as well: that defence goes too.
    monkeypatch.setattr(masking_module, "encode", lambda value: b"the same context")
    x, moved = worlds(32)
    first, second = View(x, exchange=1), View(moved, exchange=2)
    u = first.honest[0]
    pairwise = [view.residual(u) for view in (first, second)]
    assert (pairwise[1] - pairwise[0]).tolist() == (moved[u] - x[u]).tolist()


def short(monkeypatch, bits):
    """Mask keys of so few bits of entropy, at all who make them."""
    real = keys_module.mask_seed

    def few(secret, roster, u, v):
        return (int.from_bytes(real(secret, roster, u, v), "big") % 2**bits).to_bytes(32, "big")

    for module in (client_module, server_module):
        monkeypatch.setattr(module, "mask_seed", few)
    monkeypatch.setitem(globals(), "mask_seed", few)


def brute_force(bits):
    """Try every key of so many bits for the mask between the two honest clients; small numbers betray the right one."""
    x = {name: from_signed(np.arange(SIZE) % 100 - 50, 32) for name in NAMES}
    view = View(x)
    u, v = view.honest
    rest, digest = view.residual(u), view.roster.digest()
    for guess in range(2**bits):
        head = rest[:8].copy()
        add_pair(head, guess.to_bytes(32, "big"), digest, u, v, -1)
        if np.abs(signed(head)).max() < 2**10:
            add_pair(rest, guess.to_bytes(32, "big"), digest, u, v, -1)
            return rest.tolist() == x[u].tolist()
    return False


def test_control_short_mask_keys_are_found_by_trying(monkeypatch):
    # 10 bits here, in well under a second; 32 bits are 4 million times as many tries, hours on one core.
    short(monkeypatch, 10)
    assert brute_force(10)


def test_the_same_search_finds_nothing_among_the_real_keys():
    assert not brute_force(10)


def test_control_a_client_that_reveals_both_secrets_is_read(monkeypatch):
    honest_unmask = Client.unmask

    def both(self, survivors, agreements):
        pair = dict(self.memory.pair_shares)
        revealed = honest_unmask(self, survivors, agreements)
        return Revealed(roster=revealed.roster, own=revealed.own, pair=pair)

    monkeypatch.setattr(Client, "unmask", both)
    monkeypatch.setattr(
        Server, "revealed", lambda self, name, message: self._revealed.update({name: message})
    )
    x = worlds(32)[1]
    view = View(x)
    u = view.honest[0]
    assert view.residual(u).tolist() == x[u].tolist()


def test_control_without_a_mask_of_its_own_a_late_vector_is_read(monkeypatch):
    def nothing(vector, b, roster, u, sign):
        pass

    for module in (client_module, server_module):
        monkeypatch.setattr(module, "add_own", nothing)
    x = worlds(32)[1]
    view = View(x, late=(NAMES[4],))
    rest = view.residual(NAMES[4], view.late[NAMES[4]])
    assert rest.tolist() == x[NAMES[4]].tolist()


def test_a_client_expands_one_stream_for_each_other_and_one_of_its_own(monkeypatch):
    streams = []

    class Recorded(Stream):
        def __init__(self, seed, label, context):
            streams.append((seed, label, context))
            super().__init__(seed, label, context)

    monkeypatch.setattr(masking_module, "Stream", Recorded)
    View(worlds(32)[0])
    seeds = {seed for seed, _, _ in streams}
    assert {len(seed) for seed in seeds} == {32}
    assert len(seeds) == N + len(list(itertools.combinations(NAMES, 2)))
