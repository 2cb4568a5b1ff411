"""Controls: with a protection taken out of what ships, its mutant is reported as not caught."""

from __future__ import annotations

import hashlib
import inspect
import secrets
import sys
import zlib
from dataclasses import replace
from functools import cache
from itertools import count

import grpc
import numpy as np
import pytest
import torch

import protocols.chain
import protocols.committee
import protocols.contribution
import protocols.integrity
import protocols.noise
import protocols.projection
import protocols.sharing
import securefl.consortium
import securefl.data.sources
import securefl.durable
import securefl.roles.hospital
import securefl.roles.host
import securefl.training.private
from protocols.chain import Signers
from protocols.committee import Committee
from protocols.crypten_repairs import import_crypten
from protocols.envelope import SealingKey
from protocols.errors import EncodingError
from protocols.integrity import PairMasks
from protocols.mesh import GrpcMesh
from protocols.mesh_session import Mesh
from protocols.prg import Stream
from protocols.ring import Encoding
from protocols.zero_sharing import PairwiseKeys
from securefl.audit import distinguisher
from securefl.audit.mutants import MUTANTS, bindings, channels, crashes, leaks, masks, openings, privacy, sums
from securefl.audit.mutants.messages import read_on_trust
from securefl.audit.stage_cast import HOSPITALS
from securefl.cli import app as cli_app
from securefl.cli import main
from securefl.data import user_module
from securefl.data.partition import SPLITS, by_class
from securefl.deploy import authority, plan
from securefl.engines import link
from securefl.errors import RefusedError
from securefl.privacy import PrivacyLedger
from securefl.privacy import ledger as ledger_module
from securefl.roles import committee_runner, private_terms
from securefl.roles.committee_runner import CommitteeRunner
from securefl.roles.effects import Enter, Keep, Send
from securefl.roles.hospital import HospitalMachine
from securefl.roles.host import Store
from securefl.roles.messages import read_message
from securefl.roles.party import PartyMachine
from securefl.roles.party_memory import Ledger
from securefl.roles.spending import Spending
from securefl.roles.terms import Terms
from securefl.study import Study
from securefl.training.server import ServerState
from tests.securefl.audit import removed_domain, removed_secagg


class OneScalar(Stream):
    """An expansion that repeats its first element."""

    def fill(self, out):
        super().fill(out)
        elements = np.frombuffer(out, dtype="<u4")
        elements[:] = elements[0]


def _lengthened(name, longer):
    """A seed of few bits, made long."""

    def remove(patch):
        patch(protocols.sharing, "new_seed", lambda: longer(secrets.randbits(masks.SEED_BITS)))

    remove.__name__ = name
    return remove


short_seeds = [
    _lengthened("short_seeds", lambda number: number.to_bytes(32, "big")),
    _lengthened("short_seeds_at_the_front", lambda number: number.to_bytes(32, "little")),
    _lengthened("short_seeds_repeated", lambda number: number.to_bytes(4, "big") * 8),
    _lengthened("short_seeds_hashed", lambda number: hashlib.sha256(number.to_bytes(4, "big")).digest()),
]


def seeds_from_torch(patch):
    draw = lambda: torch.randint(0, 256, (32,), dtype=torch.uint8).numpy().tobytes()  # noqa: E731
    patch(protocols.sharing, "new_seed", draw)


def one_scalar(patch):
    patch(protocols.sharing, "Stream", OneScalar)


def one_seed(patch):
    patch(protocols.sharing, "new_seed", lambda: bytes(32))


def masks_of_the_seed_alone(patch):
    patch(protocols.sharing, "_stream", lambda seed, _party, _context: Stream(seed, "share", b""))


def masks_without_the_party(patch):
    patch(protocols.sharing, "_stream", lambda seed, _party, context: Stream(seed, "share", context))


def one_context_for_all(patch):
    patch(protocols.contribution, "share_context", lambda *_: b"")


def contexts_without_the_hospital(patch):
    patch(protocols.contribution, "share_context", lambda context, _hospital: context.digest())


def no_memory_of_masks(patch):
    streams = PairwiseKeys.streams

    def forgetful(keys, label, context):
        keys._used.clear()
        return streams(keys, label, context)

    patch(PairwiseKeys, "streams", forgetful)


def keys_of_neighbours_only(patch):
    streams = PairwiseKeys.streams

    def fewer(keys, label, context):
        far = {(keys.rank + 1) % keys.world_size, (keys.rank - 1) % keys.world_size}
        return {peer: stream for peer, stream in streams(keys, label, context).items() if peer in far}

    patch(PairwiseKeys, "streams", fewer)


def openings_as_they_are(patch):
    patch(Committee, "prepare", lambda _committee, share, _context: share.astype("<u8") << np.uint64(32))


def round_keys_unchecked(patch):
    patch(securefl.roles.hospital, "check_signature", lambda *_: None)


def any_committee(patch):
    patch(Signers, "check_members", lambda *_: None)


def every_model_alike(patch):
    patch(ServerState, "digest", lambda _: bytes(32))


def nothing_sealed(patch):
    patch(protocols.contribution, "seal", lambda _key, content, _binding: bytes(1120) + content + bytes(16))
    patch(SealingKey, "open", lambda _key, envelope, _binding: envelope[1120:-16])


def round_keys_on_disk(patch):
    request = PartyMachine._key_request

    def keeps(machine, message):
        effects = request(machine, message)
        return [*effects, Keep("round-key", machine._attempt.key.private_bytes())]

    patch(PartyMachine, "_key_request", keeps)


def updates_in_the_log(patch):
    values_of = HospitalMachine._values

    def told(machine, round_):
        values = values_of(machine, round_)
        securefl.roles.hospital.log.debug("round %d: %s", round_, values.tolist())
        return values

    patch(HospitalMachine, "_values", told)


def opening_before_writing(patch):
    handle = PartyMachine.handle
    patch(
        PartyMachine,
        "handle",
        lambda machine, event: sorted(handle(machine, event), key=lambda effect: not openings._opens(effect)),
    )


def no_minimum(patch):
    patch(Terms, "least", lambda *_: 1)


def no_ledger(patch):
    patch(Ledger, "check", lambda *_: None)


def nothing_entered(patch):
    patch(Ledger, "enter", lambda *_: [])


def cohorts_that_differ_by_one(patch):
    def check(ledger, context, included):
        if len(set(ledger._opened(context) or included) ^ set(included)) == 1:
            raise RefusedError("other-cohort", "It differs by one.")

    patch(Ledger, "check", check)


def names_without_keys(patch):
    patch(Ledger, "_keyed", lambda _ledger, included: dict.fromkeys(included, b""))


def requests_that_depend_on_the_data(patch):
    verdicts = protocols.committee.norm_verdicts

    def talkative(projections, check):
        draw = import_crypten().communicator.get().draw_tuple
        draw("bit", 1 + int(projections[0, 0]) % 1000)
        return verdicts(projections, check)

    patch(protocols.committee, "norm_verdicts", talkative)


def rows_of_signs(patch):
    bits = np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 1
    patch(protocols.projection, "_ENTRIES", (2 * bits - 1).astype(np.float32))


def a_known_coin(patch):
    patch(protocols.projection, "digest", lambda *_: bytes(32))


def one_coin_for_all(patch):
    patch(committee_runner, "coin", lambda *_: bytes(32))


def known_parts(patch):
    patch(CommitteeRunner, "_coin_parts", lambda *_: [bytes(32)] * 3)


class LikeAny(bytes):
    """Bytes that are equal to all others."""

    __hash__ = bytes.__hash__

    def __eq__(self, _other):
        return True

    def __ne__(self, _other):
        return False


def parts_as_they_are_told(patch):
    patch(committee_runner, "commit", lambda *_: LikeAny())


def everybody_within(patch):
    patch(protocols.committee, "norm_verdicts", lambda projections, _check: [True] * len(projections))


def answers_that_say_nothing(patch):
    patch(protocols.integrity, "inner_product", lambda *_: 0)


def answers_unmasked(patch):
    patch(PairMasks, "mask", lambda *_: 0)


def masks_in_pairs(patch):
    """Each hospital shares a key with one other, and not with all."""
    combine, names = protocols.integrity.combine, sorted(HOSPITALS)
    of = {name: place // 2 for place, name in enumerate(names)}

    def fewer(name, pairs):
        return combine(name, {peer: element for peer, element in pairs.items() if of[peer] == of[name]})

    patch(protocols.integrity, "combine", fewer)


def challenge_of_coins_alone(patch):
    challenge = protocols.integrity.challenge
    patch(protocols.integrity, "challenge", lambda _outcome, coins: challenge(bytes(32), coins))


def coins_without_commitments(patch):
    patch(protocols.integrity, "commit_coin", lambda *_: bytes(32))


def links_unchecked(patch):
    patch(protocols.chain, "check_link", lambda *_: None)
    patch(protocols.chain, "check_closing", lambda *_: None)


def no_room(patch):
    for_bound = Encoding.for_bound
    patch(Encoding, "for_bound", lambda width, bound, _summands: for_bound(width, bound, 1))


def sums_by_the_order(patch):
    def add(total, content, rank, context):
        total *= total.dtype.type(3)
        protocols.sharing.add_share(total, content, rank, context)

    patch(committee_runner, "add_share", add)


def steps_that_differ(patch):
    step, calls = ServerState.step, count()
    patch(ServerState, "step", lambda state, total, *rest: step(state, total + next(calls), *rest))


def everyone_or_nothing(patch):
    patch(Terms, "least", lambda terms, _round: len(terms.hospitals))


def a_late_deadline(patch):
    receive = Mesh.receive

    def late(mesh, *arguments):
        mesh.deadline = 2.0
        return receive(mesh, *arguments)

    patch(Mesh, "receive", late)


def an_impostor_with_the_real_key(patch):
    made = cache(channels.make_party_certificate)
    patch(channels, "make_party_certificate", lambda rank, consortium: made(rank, consortium))


def malformed_messages_let_through(patch):
    def read(data):
        try:
            return read_message(data)
        except EncodingError:
            return read_on_trust(data)

    patch(securefl.roles.host, "read_message", read)


def no_noise(patch):
    patch(protocols.noise, "discrete_gaussian", lambda size, _variance: np.zeros(size, dtype=np.int64))


def sums_as_they_are(patch):
    patch(committee_runner, "noisy", lambda total, _variance: total)


def no_variance(patch):
    patch(Terms, "noise_variance", lambda *_: 0)


def noise_of_one_party(patch):
    """As if no party could be among the colluding ones."""
    variance = protocols.noise.party_variance
    patch(private_terms, "party_variance", lambda clip, z, parties, _colluding: variance(clip, z, parties, 0))


def rounding_after_the_clip(patch):
    def rounded(gradient, clip_units, fraction_bits):
        scaled = np.ldexp(np.minimum(gradient, 1e9), fraction_bits)
        return np.rint(scaled * min(1.0, clip_units / float(np.linalg.norm(scaled)))).astype(np.int64)

    patch(securefl.training.private, "bounded_rounding", rounded)


def no_clip(patch):
    def rounded(gradient, _clip_units, fraction_bits):
        return np.rint(np.ldexp(gradient, fraction_bits)).astype(np.int64)

    patch(securefl.training.private, "bounded_rounding", rounded)


def split_by_class(patch):
    patch(securefl.data.sources, "SPLITS", dict.fromkeys(SPLITS, by_class))


def studies_that_add_up(patch):
    def counted(charged, limit):
        return ledger_module._epsilon(charged, limit.unit, limit.delta).pld

    patch(ledger_module, "_filtered", counted)


def draws_by_the_seed(patch):
    rounds = count()

    def drawn(units, _rate):
        return np.array(sorted(privacy.seeded(next(rounds), units)), dtype=np.int64)

    patch(securefl.training.private, "poisson_sample", drawn)


def everybody_is_drawn(patch):
    patch(securefl.training.private, "poisson_sample", lambda units, _rate: np.arange(units))


def nobody_looks_at_the_budget(patch):
    patch(PrivacyLedger, "check", lambda *_arguments: None)


def nothing_is_charged(patch):
    patch(Spending, "charge", lambda *_: Enter("nothing", b"-"))


def seeds_of_8_bits(patch):
    draw = lambda: secrets.randbits(distinguisher.SEED_BITS).to_bytes(32, "big")  # noqa: E731
    patch(protocols.sharing, "new_seed", draw)


def keys_from_public_values(patch):
    def stream(_seed, party, context):
        return Stream(distinguisher.public_seed(context), "share", party.to_bytes(2, "big") + context)

    patch(protocols.sharing, "_stream", stream)


class SixteenBits(Stream):
    """An expansion whose elements are short."""

    def fill(self, out):
        super().fill(out)
        elements = np.frombuffer(out, dtype="<u4")
        elements &= 0xFFFF


def short_masks(patch):
    patch(protocols.sharing, "Stream", SixteenBits)


def nothing_bound(patch):
    patch(protocols.contribution, "binding", lambda *_: bindings._NOWHERE)


def compressed_shares(patch):
    seal = protocols.contribution.seal
    patch(
        protocols.contribution, "seal", lambda key, content, bound: seal(key, zlib.compress(content), bound)
    )


def reports_with_variables(patch):
    def main():
        try:
            cli_app.app()
        except Exception as error:
            print(leaks.with_locals(error), file=sys.stderr)

    patch(cli_app, "main", main)


def errors_that_show_their_content(patch):
    seal = protocols.contribution.seal

    def talkative(key, content, bound):
        try:
            return seal(key, content, bound)
        except EncodingError as error:
            raise EncodingError(f"{bytes(content)!r} cannot be sealed.") from error

    patch(protocols.contribution, "seal", talkative)


def files_of_the_usual_mode(patch):
    patch(securefl.consortium.durable, "write", lambda path, data, mode=0o644: path.write_bytes(data))


def writes_in_place(patch):
    patch(securefl.durable, "_replace", lambda path, data, _mode, _settle: crashes.in_place(path, data))


def sends_before_keeping(patch):
    handle = HospitalMachine.handle
    patch(
        HospitalMachine,
        "handle",
        lambda machine, event: sorted(
            handle(machine, event), key=lambda effect: not isinstance(effect, Send)
        ),
    )


def answers_not_kept(patch):
    keep = Store.keep

    def forgetful(store, name, data):
        if name != securefl.roles.hospital.ANSWER:
            keep(store, name, data)

    patch(Store, "keep", forgetful)


def open_ends(patch):
    patch(protocols.chain, "check_closing", lambda *_: None)


def signatures_unchecked(patch):
    patch(protocols.chain, "check_signatures", lambda *_: None)


def all_that_lies_there_runs(patch):
    """Both protections: a folder of the signed files, and in it nothing but source."""

    def forget():
        sys.modules.pop("layers", None)
        return {}

    patch(Study, "copy_to", lambda study, _folder: study)
    patch(user_module, "_watch", lambda _folder: None)
    patch(user_module, "_taken_away", forget)


def callers_unasked(patch):
    credentials = grpc.ssl_server_credentials
    patch(grpc, "ssl_server_credentials", lambda pairs, *_, **__: credentials(pairs))
    patch(GrpcMesh, "_peer_of", lambda _mesh, _context: 1)


def anybody_registers(patch):
    coordinator = plan._coordinator

    def without(*arguments):
        made = coordinator(*arguments)
        (process,) = made.processes
        words = [word for word in process.command if word != "--enable-supernode-auth"]
        return replace(made, processes=[replace(process, command=words)])

    patch(plan, "_coordinator", without)


def an_authority_whose_key_everybody_has(patch):
    patch(authority, "make_authority", cache(authority.make_authority))


def no_authority(patch):
    supernode = plan._supernode

    def without(*arguments):
        made = supernode(*arguments)
        at = made.command.index("--root-certificates")
        return replace(made, command=[*made.command[:at], "--insecure", *made.command[at + 2 :]])

    patch(plan, "_supernode", without)


def sockets_of_the_usual_mode(patch):
    patch(link.os, "umask", lambda _mask: 0)


REMOVED = {
    "short-seed": short_seeds,
    "masks-from-torch": [seeds_from_torch],
    "one-scalar-mask": [one_scalar],
    "mask-used-twice": [
        one_seed,
        masks_of_the_seed_alone,
        masks_without_the_party,
        one_context_for_all,
        contexts_without_the_hospital,
        no_memory_of_masks,
    ],
    "ring-of-seeds": [keys_of_neighbours_only, openings_as_they_are],
    "keys-from-the-coordinator": [round_keys_unchecked],
    "shrunk-committee": [any_committee],
    "model-from-the-coordinator": [every_model_alike],
    "shares-in-the-open": [nothing_sealed],
    "long-lived-keys": [round_keys_on_disk],
    "death-after-opening": [opening_before_writing],
    "list-of-one": [no_minimum],
    "two-studies-of-one-model": [no_ledger, nothing_entered],
    "several-studies-of-one-model": [no_ledger, nothing_entered, cohorts_that_differ_by_one],
    "one-name-for-two-keys": [no_ledger, nothing_entered, names_without_keys],
    "count-difference": [no_minimum],
    "a-party-deals": [requests_that_depend_on_the_data],
    "rows-of-signs": [rows_of_signs],
    "coin-before-the-list": [a_known_coin, one_coin_for_all, known_parts, parts_as_they_are_told],
    "no-norm-check": [everybody_within],
    "parties-lie": [answers_that_say_nothing],
    "challenge-known-early": [challenge_of_coins_alone],
    "coins-without-commitments": [coins_without_commitments],
    "answers-without-masks": [answers_unmasked, masks_in_pairs],
    "receipts-without-a-chain": [links_unchecked],
    "no-room-for-the-sum": [no_room],
    "floats-in-any-order": [sums_by_the_order, steps_that_differ],
    "pairwise-masks": [everyone_or_nothing],
    "wait-without-end": [a_late_deadline],
    "rank-by-word": [an_impostor_with_the_real_key],
    "messages-on-trust": [malformed_messages_let_through],
    "noise-forgotten": [no_noise, sums_as_they_are, no_variance, noise_of_one_party],
    "clip-then-round": [rounding_after_the_clip, no_clip],
    "draws-from-the-seed": [draws_by_the_seed, everybody_is_drawn],
    "split-by-class": [split_by_class],
    "budget-of-fixed-studies": [nobody_looks_at_the_budget, studies_that_add_up],
    "ledger-of-a-run": [nobody_looks_at_the_budget, nothing_is_charged],
    "seed-of-32-bits": [seeds_of_8_bits],
    "scalar-mask": [one_scalar],
    "mask-of-a-study": [one_seed],
    "server-rebuilds-keys": [keys_from_public_values],
    "half-a-mask": [short_masks],
    "envelope-without-context": [nothing_bound],
    "compressed-updates": [compressed_shares],
    "dump-with-variables": [errors_that_show_their_content, reports_with_variables],
    "log-of-everything": [round_keys_on_disk, updates_in_the_log],
    "keys-for-everybody": [files_of_the_usual_mode],
    "written-in-place": [writes_in_place],
    "sent-before-kept": [sends_before_keeping, answers_not_kept],
    "history-without-an-end": [open_ends],
    "one-signature-is-enough": [signatures_unchecked],
    "built-where-it-lies": [all_that_lies_there_runs],
    "callers-without-certificates": [callers_unasked],
    "superlink-for-everybody": [anybody_registers],
    "authority-by-whoever-answers": [an_authority_whose_key_everybody_has, no_authority],
    "socket-for-everybody": [sockets_of_the_usual_mode],
    **removed_domain.REMOVED,
    **removed_secagg.REMOVED,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(masks, "SEED_BITS", 11)
    monkeypatch.setattr(sums, "BITS", 7)
    monkeypatch.setattr(distinguisher.games, "__defaults__", (150, 150))
    monkeypatch.setattr(distinguisher, "TESTS", 150)
    monkeypatch.setattr(distinguisher.likely, "__defaults__", (150,))
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


def test_there_is_a_control_for_every_mutant():
    assert set(REMOVED) == set(MUTANTS)


class Removal:
    """Stands in for ``monkeypatch.setattr``: where names would be changed."""

    def __init__(self):
        self.modules = []

    def __call__(self, target, name, _value):
        assert hasattr(target, name), f"{target} has no {name}"
        self.modules.append(target.__name__ if inspect.ismodule(target) else target.__module__)


@pytest.mark.parametrize("remove", [remove for removals in REMOVED.values() for remove in removals])
def test_what_is_taken_out_is_what_ships(remove):
    """A name that is changed in the audit itself would say nothing of what the attack reaches."""
    removal = Removal()
    remove(removal)
    assert removal.modules
    ours = [m for m in removal.modules if m.startswith(("securefl.audit", "tests"))]
    # gRPC checks a peer's certificate inside, where nothing can be taken out: instead everybody has the key.
    assert bool(ours) == (remove is an_impostor_with_the_real_key)


def _first_quick():
    """One control for each mutant; the others are among the slow tests."""
    for name, removals in REMOVED.items():
        for place, remove in enumerate(removals):
            yield pytest.param(name, remove, marks=[pytest.mark.slow] if place else [])


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(("name", "remove"), _first_quick())
def test_without_the_protection_a_mutant_is_not_caught(monkeypatch, name, remove):
    remove(monkeypatch.setattr)
    try:
        finding = MUTANTS[name].caught()
    except Exception:  # what ships does not get that far any more; the registry reports it as not caught
        assert remove in (everyone_or_nothing, sums_by_the_order)
        return
    assert not finding.holds, finding.sentence


def test_the_command_line_reports_it(monkeypatch, capsys):
    any_committee(monkeypatch.setattr)
    monkeypatch.setattr("sys.argv", ["securefl", "audit", "mutants", "shrunk-committee"])
    with pytest.raises(SystemExit) as exit_:
        main()
    out = capsys.readouterr().out
    assert exit_.value.code == 1
    assert "BAD shrunk-committee" in out
    assert "NOT CAUGHT: 0 of 4 hospitals refused" in out
