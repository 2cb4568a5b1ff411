"""Writes the known answers of messages (``python -m tests.protocols.write_vectors``); a test compares the files.

The files that are not written here (encoding, expansion, sharing, envelope, ...) have inputs that were drawn once and
outputs that ``test_vectors.py`` computes a second time.
"""

from __future__ import annotations

import json

import numpy as np

from protocols.chain import SignedClosing, beginning, digest_of_verifications
from protocols.contribution import sign
from protocols.envelope import envelope_digest
from tests.protocols.vector_arithmetic import canonical_cases, fineness_cases
from tests.protocols.vector_checks import check_cases
from tests.protocols.vector_dialogues import DUO, announcement_cases, outcome_cases
from tests.protocols.vector_permits import permit_cases
from tests.protocols.vector_world import (
    ENCODINGS,
    FOLDER,
    HOSPITALS,
    INITIAL,
    OWN,
    PARTIES,
    ROUNDS,
    SEALING,
    SERVER,
    SIGNING,
    STATISTICS,
    STUDY,
    TRAINABLE,
    UPDATES,
    World,
    changed,
    coin,
    drawn,
    round_key,
    signatures,
    sum_digest,
)  # fmt: skip


def floats(vector):
    return np.asarray(vector, "<f8").tobytes().hex()


def contribution_cases(world):
    cases = []
    contexts = {
        "round_0": world.contexts[0],
        "round_1": world.contexts[1],
        "round_2": world.contexts[2],
        "two_parties_16": changed(world.contexts[1], parties=DUO, width=16, attempt=3),
        "last_attempt": changed(world.contexts[1], attempt=2**32),
    }
    for name, context in contexts.items():
        x = np.arange(7, dtype="<u2") * 9000 if context.width == 16 else world.vector(OWN, context)
        seeds, plaintexts = world.plaintexts(OWN, context, x)
        envelopes = world.kept.seal(name, context, OWN, plaintexts)
        made, _ = world.contribution(OWN, context)
        made = changed(made, envelopes=[envelope_digest(e) for e in envelopes])
        keys = [round_key(party, context.round, context.attempt) for party in context.parties]
        cases.append(
            {
                "name": name,
                "context": context.to_bytes().hex(),
                "context_digest": context.digest().hex(),
                "hospital": OWN,
                "signing": SIGNING[OWN].private_bytes().hex(),
                "vector": x.tobytes().hex(),
                "coin": coin(OWN, context).hex(),
                "seeds": [seed.hex() for seed in seeds],
                "plaintexts": [bytes(p).hex() for p in plaintexts],
                "private": [key.private_bytes().hex() for key in keys],
                "envelopes": [e.hex() for e in envelopes],
                "contribution": made.to_bytes().hex(),
                "signature": sign(made, SIGNING[OWN]).hex(),
            }
        )
    base = cases[1]
    context, hexed = world.contexts[1], lambda record: record.to_bytes().hex()
    swapped = [base["envelopes"][i] for i in (1, 0, 2)]
    key = SIGNING[OWN]
    made = type(world.made[1][OWN]).from_bytes(bytes.fromhex(base["contribution"]))
    flipped = base["envelopes"][0][:-1] + format(int(base["envelopes"][0][-1], 16) ^ 1, "x")
    for name, reason, fields in (
        ("wrong_recipient", "envelope-not-signed", {"envelopes": swapped}),
        ("wrong_recipient_signed", "does-not-open", resealed(made, swapped)),
        ("replayed_round", "other-context", {"context": hexed(world.contexts[2])}),
        ("replayed_attempt", "other-context", {"context": hexed(changed(context, attempt=2))}),
        ("signature_of_other_kind", "not-signed", {"signature": key.sign("vote", made.digest()).hex()}),
        ("signed_by_another_hospital", "not-signed", {"signature": sign(made, SIGNING["b"]).hex()}),
        ("sent_under_another_name", "not-signed", {"contribution": hexed(changed(made, hospital="b"))}),
        (
            "coin_changed_after_signing",
            "not-signed",
            {"contribution": hexed(changed(made, coin=drawn("coin")))},
        ),
        ("envelope_changed", "envelope-not-signed", {"envelopes": [flipped, *base["envelopes"][1:]]}),
        ("envelope_changed_and_signed", "does-not-open", resealed(made, [flipped, *base["envelopes"][1:]])),
        ("envelope_missing", "not-one-envelope-a-party", resealed(made, base["envelopes"][:2])),
        ("truncated", "malformed", {"contribution": base["contribution"][:-2]}),
    ):
        cases.append({**base, "name": f"bad_{name}", "reason": reason, **fields})
    return cases


def resealed(made, envelopes):
    again = changed(made, envelopes=[envelope_digest(bytes.fromhex(e)) for e in envelopes])
    return {
        "envelopes": envelopes,
        "contribution": again.to_bytes().hex(),
        "signature": sign(again, SIGNING[OWN]).hex(),
    }


def receipt_cases(world):
    outcomes, totals = [s.signed for s in world.settled], [s.total for s in world.settled]
    cases = []

    def add(name, signers=PARTIES, kind="closing", checks=None, reason="other-chain", **fields):
        receipts, sums = fields.pop("outcomes", outcomes), fields.pop("totals", totals)
        checks = world.verifications if checks is None else checks
        end = world.closed(**{"parties": list(signers), **fields})
        given = [SIGNING[p].sign(kind, end.digest()) for p in signers]
        cases.append(
            {
                "name": name,
                **({"reason": reason} if name.startswith("bad_") else {}),
                "receipts": [o.to_bytes().hex() for o in receipts],
                "sums": [t.hex() for t in sums],
                "verifications": [v.to_bytes().hex() if v else "" for v in checks],
                "closing": SignedClosing(closing=end, signatures=given).to_bytes().hex(),
            }
        )

    def over(checks):
        digests = [v.digest() if v else b"" for v in checks]
        unverified = [i for i, v in enumerate(checks) if not v]
        return {"checks": checks, "unverified": unverified, "verifications": digest_of_verifications(digests)}

    first, second, third = world.verifications
    start, model = world.contexts[0], [c.model for c in world.contexts]
    add("whole_study")
    add("an_unverified_round", **over([first, second, None]))
    add("closed_by_two_parties", signers=DUO)
    nothing = {"rounds": 0, "last": beginning(STUDY), "model": start.model, **over([])}
    add("bad_closing_before_the_first_round", outcomes=[], totals=[], **nothing)
    early = {"rounds": 2, "last": outcomes[1].outcome.digest(), "model": model[2], **over([first, second])}
    add("bad_closing_before_the_last_round", outcomes=outcomes[:2], totals=totals[:2], **early)
    add("bad_outcome_missing", outcomes=outcomes[1:], totals=totals[1:], checks=[second, third])
    add("bad_tail_missing", outcomes=outcomes[:2], totals=totals[:2], checks=[first, second])
    swapped = [outcomes[i] for i in (0, 2, 1)], [totals[i] for i in (0, 2, 1)]
    add("bad_outcomes_swapped", outcomes=swapped[0], totals=swapped[1], checks=[first, third, second])
    add("bad_sum_changed", totals=[*totals[:2], bytes(len(totals[2]))])
    late = changed(outcomes[2], signatures=signatures(outcomes[2].outcome, ["uni", "registry", "registry"]))
    add("bad_outcome_signature_of_another_party", outcomes=[*outcomes[:2], late])
    for name, reason, fields in (
        ("purpose", "other-round", {"purpose": "statistics"}),
        ("width", "other-encoding", {"width": 64}),
    ):
        context = changed(world.contexts[2], **fields)
        total = totals[2] if name == "purpose" else bytes(56)
        settled = world.settle(world.outcome(context, world.made[2], total=sum_digest(total)), total)
        given = {"outcomes": [*outcomes[:2], settled.signed], "totals": [*totals[:2], total]}
        last = {"last": settled.signed.outcome.digest(), **over([first, second, None])}
        add(f"bad_receipt_other_{name}", reason=reason, **given, **last)
    add("bad_closing_of_another_study", study=drawn("other"))
    add("bad_closing_counts_more_rounds", rounds=4)
    add("bad_closing_after_another_outcome", last=outcomes[1].outcome.digest())
    add("bad_closing_with_another_model", model=model[2])
    add("bad_closing_signature_of_other_kind", kind="outcome")
    add("bad_closing_by_one_party", signers=["uni"])
    add("bad_closing_parties_out_of_order", signers=DUO[::-1])
    add("bad_closing_hides_an_unverified_round", checks=[first, second, None])
    add("bad_closing_names_other_checks", verifications=drawn("checks"))
    add("bad_verification_of_another_round", reason="not-verified", checks=[first, third, second])
    add("bad_closing_calls_a_checked_round_unverified", unverified=[2])
    lie, check, model = world.lying(2)
    end = {"last": lie.signed.outcome.digest(), "model": model, **over([first, second, check])}
    add(
        "bad_wrong_sum",
        reason="wrong-sum",
        outcomes=[*outcomes[:2], lie.signed],
        totals=[*totals[:2], lie.total],
        **end,
    )
    return cases


def study(world):
    """What all the message files are about; its ``cases`` are the rounds."""
    rounds = [
        {
            "name": f"round_{i}",
            "settled": world.settled[i].to_bytes().hex(),
            "contribution": world.made[i][OWN].to_bytes().hex(),
            "coin": coin(OWN, world.contexts[i]).hex(),
            "vector": world.vector(OWN, world.contexts[i]).tobytes().hex(),
        }
        for i in range(ROUNDS + 1)
    ]
    return {
        "study": STUDY.hex(),
        "hospitals": {n: {"signing": SIGNING[n].public.hex(), "sealing": SEALING[n].public.hex()} for n in HOSPITALS},
        "parties": {name: SIGNING[name].public.hex() for name in PARTIES},
        "minimum": 2,
        "minimum_parties": 2,
        "rounds": ROUNDS,
        "encodings": {
            purpose: {"width": e.width, "bits": e.fraction_bits, "limit": str(e.limit)}
            for purpose, e in ENCODINGS.items()
        },
        "server": {"learning_rate": SERVER.learning_rate, "momentum": SERVER.momentum, "trainable": TRAINABLE},
        "hospital": OWN,
        "signing": SIGNING[OWN].private_bytes().hex(),
        "sealing": SEALING[OWN].private_bytes().hex(),
        "round_keys": {
            f"{party}/{round_}/{attempt}": round_key(party, round_, attempt).private_bytes().hex()
            for party in PARTIES for round_ in range(ROUNDS + 1) for attempt in (1, 2)
        },
        "initial_model": floats(INITIAL),
        "statistics": floats(STATISTICS[OWN]),
        "update": floats(UPDATES[OWN]),
        "final_model": floats(world.state.model),
        "final_model_digest": world.state.digest().hex(),
        "cases": rounds,
    }  # fmt: skip


def written() -> dict[str, str]:
    """The files' content by name."""
    world = World()
    content = {
        "canonical": {"cases": canonical_cases()},
        "fineness": {"cases": fineness_cases()},
        "study": study(world),
        "announcement": {"cases": announcement_cases(world)},
        "permit": {"cases": permit_cases(world)},
        "outcome": {"cases": outcome_cases(world)},
        "sum_check": {"cases": check_cases(world)},
        "contribution": {"cases": contribution_cases(world)},
        "receipts": {"cases": receipt_cases(world)},
    }
    return {name: json.dumps({"version": 1, **given}, indent=1) + "\n" for name, given in content.items()}


if __name__ == "__main__":
    for name, text in written().items():
        (FOLDER / f"{name}.json").write_text(text)
