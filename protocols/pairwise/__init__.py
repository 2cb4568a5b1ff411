"""Pairwise masks: clients add masks that cancel in the sum, over one server that need not be trusted with a vector.

Adversary: a server that follows the protocol, together with fewer than t clients; with pinned signing keys
    (``Policy.pinned``) a server that does not follow it, together with c clients where 2t > n + c and t >= c + 2.
Promise: of the honest clients' vectors, only the sum over those that reached the masked input (at least t, all
    clients counted) is learnt. A client that leaves at any step costs nothing but its vector, as long as t answer.
    **Without pinned keys the server is believed about the keys**: one that hands out keys of its own reads everything.
Source: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", figure 4 and
    section 6, with its letters: c_u and s_u are key pairs, b_u the seed of a client's own mask, s_{u,v} that of a
    pair's, U1 ⊇ U2 ⊇ U3 ⊇ U4 the clients left after each step. n is |U1|, the holders of shares.

The graph is complete: each client shares with every other, O(n²) messages. Bell et al. 2020 (SecAgg+) share with
O(log n) neighbours, and then believe that no neighbourhood is captured; with tens of hospitals that saves nothing.

Not as in the paper: every key is bound to the whole list of public keys, so that a server which shows two lists gets
nothing that opens; and each client commits to b_u, so that a share that was changed is noticed and not added.
"""

from protocols.pairwise.client import Client
from protocols.pairwise.messages import (
    Agreement,
    Agreements,
    Delivery,
    Keys,
    Masked,
    Memory,
    Parcels,
    Revealed,
    Roster,
    SignedKeys,
    StepError,
    Survivors,
    Terms,
    TooFewError,
)
from protocols.pairwise.policy import Policy, default_threshold
from protocols.pairwise.server import Server

__all__ = [
    "Agreement",
    "Agreements",
    "Client",
    "Delivery",
    "Keys",
    "Masked",
    "Memory",
    "Parcels",
    "Policy",
    "Revealed",
    "Roster",
    "Server",
    "SignedKeys",
    "StepError",
    "Survivors",
    "Terms",
    "TooFewError",
    "default_threshold",
]
