"""The protections of the drop-in secure aggregation taken out, one by one; see ``test_mutants_controls.py``."""

from __future__ import annotations

import numpy as np

import protocols.pairwise.client
import protocols.pairwise.keys
import protocols.pairwise.masking
import securefl.secagg.client_mod
import securefl.secagg.exchange
from protocols.pairwise import Client, Policy
from securefl.audit.mutants import pairwise
from securefl.secagg import SecureMod

MAKING_MASKS = (protocols.pairwise.client, protocols.pairwise.masking)
MAKING_KEYS = (protocols.pairwise.client, protocols.pairwise.keys)


def scalar_pairs(patch):
    add_pair = protocols.pairwise.masking.add_pair

    def scalar(vector, *arguments):
        one = np.zeros(1, dtype=vector.dtype)
        add_pair(one, *arguments)
        np.copyto(vector, vector + one)

    for module in MAKING_MASKS:
        patch(module, "add_pair", scalar)


def no_own_masks(patch):
    for module in MAKING_MASKS:
        patch(module, "add_own", pairwise.no_own)


def short_keys(patch):
    mask_seed = protocols.pairwise.keys.mask_seed

    def short(*arguments):
        return (int.from_bytes(mask_seed(*arguments), "big") % 2**pairwise.BITS).to_bytes(32, "big")

    for module in MAKING_KEYS:
        patch(module, "mask_seed", short)


def lasting_keys(patch):
    for module in MAKING_KEYS:
        patch(module, "mask_seed", pairwise.lasting_seed)
    for module in MAKING_MASKS:
        patch(module, "add_pair", pairwise.lasting_pair)


def both_secrets(patch):
    unmask = Client.unmask

    def both(client, survivors, agreements):
        pair = dict(client.memory.pair_shares)
        return unmask(client, survivors, agreements).model_copy(update={"pair": pair})

    def take(server, name, message):
        server._revealed[name] = message

    patch(Client, "unmask", both)
    patch(protocols.pairwise.Server, "revealed", take)


def pins_unchecked(patch):
    patch(Policy, "check_pinned", lambda *_: None)


def the_mod_lets_through(patch):
    patch(SecureMod, "__call__", lambda _mod, message, context, call_next: call_next(message, context))


def work_unchecked(patch):
    patch(SecureMod, "_check_work", lambda *_: None)


def work_without_records(patch):
    patch(securefl.secagg.client_mod, "work_of", lambda _message: bytes(32))
    patch(securefl.secagg.exchange, "work_of", lambda _message: bytes(32))


def settings_unchecked(patch):
    patch(Client, "_check_setting", lambda *_: None)


def settings_of_nothing(patch):
    patch(securefl.secagg.client_mod, "setting_of", lambda _context: b"")


def bounds_unchecked(patch):
    patch(SecureMod, "_checked", lambda _mod, terms, _context, _purpose: terms)


REMOVED = {
    "pairwise-scalar-mask": [scalar_pairs],
    "pairwise-no-own-mask": [no_own_masks],
    "pairwise-short-key": [short_keys],
    "pairwise-key-reused": [lasting_keys],
    "pairwise-both-shares": [both_secrets],
    "pairwise-keys-from-the-server": [pins_unchecked],
    "secagg-without-mod": [the_mod_lets_through],
    "secagg-bounds-of-the-server": [bounds_unchecked],
    "secagg-other-work": [work_unchecked, work_without_records],
    "secagg-other-setting": [settings_unchecked, settings_of_nothing],
}
