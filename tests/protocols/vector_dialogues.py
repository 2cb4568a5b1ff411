"""Known answers of what a hospital is told: announcements and outcomes, and what it answers to each."""

from __future__ import annotations

import cbor2
import numpy as np

from protocols.canonical import encode
from protocols.contribution import sign
from securefl.roles.messages import Accepted, Behind, SignedRoundKey
from tests.protocols.vector_world import (
    HOSPITALS,
    OWN,
    PARTIES,
    ROUNDS,
    SIGNING,
    UPDATES,
    World,
    announced,
    changed,
    drawn,
    round_key,
    sum_digest,
)  # fmt: skip

DUO = ["uni", "auditor"]


class Dialogues:
    """The cases of one file: what the hospital ``va`` was told before, and what it answers to each message then."""

    def __init__(self, world: World) -> None:
        self.world, self.cases = world, []

    def good(self, name, outcomes, *steps, pledged=False, **more):
        case = {"name": name, "outcomes": outcomes, "pledged": pledged, **more, "dialogue": list(steps)}
        self.cases.append(case)

    def bad(self, name, reason, outcomes, *messages, pledged=False):
        """The last message is refused; those before it are ``step``s."""
        *steps, last = messages
        refused = {"message": last if isinstance(last, str) else last.to_bytes().hex(), "reason": reason}
        self.good(f"bad_{name}", outcomes, *steps, refused, pledged=pledged)


def step(message, *answers, kind=None, same=False, declines=None, **files):
    given = {"message": message.to_bytes().hex(), **files}
    if declines:
        return given | {"declines": declines}
    if kind:
        return given | {"kind": kind, "same": same}
    return given | {"answers": [answer.to_bytes().hex() for answer in answers]}


# -- announcements -----------------------------------------------------------------------------------------------------


def announcement_cases(world):
    found = Dialogues(world)
    context = changed(world.contexts[1], parties=DUO)
    good, contributes = announced(context), {"kind": "signed-contribution"}
    first = announced(changed(world.contexts[0], parties=DUO))
    found.good("statistics", 0, step(first, **contributes))
    found.good("update", 1, step(good, **contributes))
    found.good("update_three_parties", 1, step(announced(world.contexts[1]), **contributes))
    found.good("cohort_of_two", 1, step(announced(context, ("b", "va")), **contributes))
    found.good("again_the_same_bytes", 1, step(good, **contributes), step(good, **contributes, same=True))
    later = announced(changed(context, attempt=2))
    found.good("later_attempt", 1, step(good, **contributes), step(later, **contributes))
    found.good("behind", 0, step(good, Behind(hospital=OWN, round=0)))

    def bad(name, reason, **fields):
        found.bad(name, reason, 1, announced(changed(context, **fields)))

    bad("other_study", "other-study", study=drawn("other"))
    found.bad("replayed_round", "other-chain", 1, first)
    bad("other_previous_outcome", "other-chain", previous=world.contexts[0].previous)
    bad("round_beyond_the_study", "other-round", round=ROUNDS + 1)
    bad("negative_round", "other-round", round=-1)
    bad("attempt_0", "other-round", attempt=0)
    bad("purpose_of_another_round", "other-round", purpose="statistics")
    bad("insecure_purpose", "other-round", purpose="insecure-unchecked-update")
    bad("other_width", "other-encoding", width=16)
    bad("size_0", "other-encoding", size=0)
    bad("size_of_another_model", "other-size", size=8)
    bad("one_party", "other-parties", parties=["uni"])
    bad("parties_out_of_order", "other-parties", parties=DUO[::-1])
    bad("stranger_in_the_committee", "other-parties", parties=["uni", "mallory"])
    bad("party_twice", "other-parties", parties=["uni", "uni"])
    bad("other_model", "other-model", model=drawn("model"))
    for name, reason, cohort in (
        ("cohort_out_of_order", "unknown-hospital", ("va", "b")),
        ("hospital_twice", "unknown-hospital", ("b", "va", "va")),
        ("stranger_in_the_cohort", "unknown-hospital", ("b", "mallory", "va")),
        ("too_few_hospitals", "too-few-hospitals", ("va",)),
        ("without_this_hospital", "not-in-cohort", ("b", "st-anna")),
    ):
        found.bad(name, reason, 1, announced(context, cohort))
    found.bad("statistics_without_a_hospital", "too-few-hospitals", 0, announced(first.context, ("b", "va")))
    found.bad(
        "second_announcement",
        "second-announcement",
        1,
        step(good, **contributes),
        announced(context, ("b", "va")),
    )
    found.bad(
        "attempt_before_the_last_answered",
        "earlier-attempt",
        1,
        step(announced(changed(context, attempt=2)), **contributes),
        good,
    )

    uni, auditor = good.keys
    public, other = auditor.key.public, changed(context, attempt=2)
    mine, vote = SIGNING["auditor"], sign(auditor.key, SIGNING["auditor"])
    small_order = public[:1184] + bytes(32)

    def bad_key(name, reason, signature=None, **fields):
        key = changed(auditor.key, **fields)
        signed_key = SignedRoundKey(key=key, signature=sign(key, mine) if signature is None else signature)
        found.bad(name, reason, 1, changed(good, keys=[uni, signed_key]))

    bad_key("key_of_another_attempt", "other-key", context=other.digest())
    bad_key("replayed_key", "other-key", context=first.context.digest())
    bad_key("key_under_another_name", "other-parties", party="registry")
    bad_key("key_signed_by_another_party", "key-not-pinned", sign(auditor.key, SIGNING["uni"]))
    bad_key("signature_of_other_kind", "key-not-pinned", mine.sign("vote", auditor.key.digest()))
    bad_key("signature_short", "key-not-pinned", vote[:-1])
    bad_key("key_changed_after_signing", "key-not-pinned", vote, public=round_key("uni", 1, 1).public)
    bad_key("key_short", "malformed", public=public[:-1])
    bad_key("key_of_small_order", "malformed", public=small_order)
    found.bad("key_missing", "other-parties", 1, changed(good, keys=[uni]))
    found.bad("keys_out_of_order", "other-parties", 1, changed(good, keys=[auditor, uni]))
    for name, data in misshapen(good):
        found.bad(name, "malformed", 1, data.hex())
    # Nothing of a decline is remembered: other announcements of the same context are answered like the first.
    declined, encodable = {"declines": "update-not-encodable"}, changed(context, attempt=2)
    too_large = np.full(len(UPDATES[OWN]), 2.0**40).tobytes().hex()
    found.good(
        "update_not_encodable", 1, step(good, **declined), step(good, **declined),
        step(announced(context, ("b", "va")), **declined), step(announced(encodable), **declined),
        step(good, **declined), update=too_large,
    )  # fmt: skip
    return found.cases


def misshapen(good):
    """One message's bytes with a fault in their form."""
    kind, fields = value = cbor2.loads(good.to_bytes())
    data = good.to_bytes()
    round_is_1 = encode("round") + encode(1)
    yield "non_canonical_integer", data.replace(round_is_1, encode("round") + b"\x18\x01")
    yield "non_canonical_order", cbor2.dumps([kind, dict(reversed(cbor2.loads(data)[1].items()))])
    yield "indefinite_length", b"\x9f" + data[1:] + b"\xff"
    yield (
        "doubled_key",
        data.replace(b"\xa3" + encode("keys"), b"\xa4" + encode("keys") + b"\x80" + encode("keys"), 1),
    )
    yield "trailing_byte", data + b"\x00"
    yield "truncated", data[:-1]
    yield "tagged", b"\xd9\xd9\xf7" + data
    yield "big_integer", data.replace(round_is_1, encode("round") + b"\xc2\x49\x01" + bytes(8))
    yield "unknown_field", encode([kind, {**fields, "note": ""}])
    yield "field_missing", encode([kind, {name: fields[name] for name in ("context", "keys")}])
    yield "unknown_field_inside", encode([kind, {**fields, "context": {**fields["context"], "note": ""}}])
    yield "round_as_a_float", data.replace(round_is_1, encode("round") + encode(1.0))
    yield "round_as_a_boolean", data.replace(round_is_1, encode("round") + encode(True))
    yield "text_as_bytes", encode([kind, {**fields, "cohort": [name.encode() for name in fields["cohort"]]}])
    yield "of_other_kind", encode(["challenge", fields])
    yield "of_no_kind", encode([fields])
    yield "three_parts", encode([*value, None])
    yield "empty", b""


# -- outcomes ----------------------------------------------------------------------------------------------------------


def outcome_cases(world):
    found, context, made = Dialogues(world), world.contexts[1], world.made[1]
    accepted = [Accepted(member=OWN, round=round_) for round_ in (0, 1)]
    shown = [next(c for c in v.coins if c.hospital == OWN) for v in world.verifications]
    outcome, total = world.settled[1].signed.outcome, world.settled[1].total

    def settled(of=outcome, signers=None, **fields):
        return world.settle(changed(of, **fields), total, signers)

    found.good("statistics", 0, step(world.settled[0], shown[0], accepted[0]), pledged=True)
    found.good("update", 1, step(world.settled[1], shown[1], accepted[1]), pledged=True)
    again = step(world.settled[1], shown[1], accepted[1])
    found.good("again", 1, again, again, pledged=True)
    found.good("to_who_did_not_contribute", 1, step(world.settled[1], accepted[1]))
    others = {name: made[name] for name in ("b", "st-anna")}
    without = world.settle(world.outcome(context, others), world.total(context, others))
    found.good("absent", 1, step(without, accepted[1]), pledged=True)
    excluded = world.settle(
        world.outcome(context, made, excluded={OWN: "norm-too-large"}, total=without.signed.outcome.total),
        without.total,
    )
    found.good("excluded", 1, step(excluded, accepted[1]), pledged=True)
    attempt = changed(context, attempt=2, parties=["uni", "registry"])
    alone = {name: world.contribution(name, attempt)[0] for name in ("b", "st-anna")}
    other_attempt = world.settle(world.outcome(attempt, alone), world.total(attempt, alone))
    found.good("other_attempt", 1, step(other_attempt, accepted[1]), pledged=True)

    def bad(name, message, reason="other-chain"):
        found.bad(name, reason, 1, message, pledged=True)

    def of_context(**fields):
        other = changed(context, **fields)
        return world.settle(world.outcome(other, made, total=outcome.total), total)

    bad("other_study", of_context(study=drawn("other")))
    bad("other_round", of_context(round=2))
    bad("other_previous_outcome", of_context(previous=world.contexts[0].previous))
    bad("other_model", of_context(model=drawn("model")))
    bad("insecure_purpose", of_context(purpose="insecure-unchecked-update"), "other-round")
    bad("attempt_0", of_context(attempt=0), "other-round")
    bad("one_party", of_context(parties=["uni"]))
    bad("parties_out_of_order", of_context(parties=["registry", "uni"]))
    signed_by = lambda *names: settled(signers=names)  # noqa: E731
    bad("signature_missing", signed_by("uni", "registry"))
    bad("signature_twice", signed_by("uni", "registry", "registry"))
    bad("signatures_out_of_order", signed_by("registry", "uni", "auditor"))
    bad("signed_by_a_hospital", signed_by("uni", "registry", "va"))
    kinds = [SIGNING[party].sign("closing", outcome.digest()) for party in PARTIES]
    bad("signature_of_other_kind", changed(settled(), signed=changed(settled().signed, signatures=kinds)))
    bad("sum_is_another", changed(settled(), total=total[:-1] + bytes([total[-1] ^ 1])))
    short = total[:-4]
    bad("sum_short", changed(settled(total=sum_digest(short)), total=short))
    frozen = outcome.frozen
    bad("list_of_another_attempt", settled(frozen=changed(frozen, context=attempt.digest())))
    bad("excluded_stranger", settled(excluded={"mallory": "norm-too-large"}))
    bad("hospital_unaccounted_for", settled(frozen=changed(frozen, cohort=[*HOSPITALS, "zurich"])))
    bad("hospital_accounted_for_twice", settled(frozen=changed(frozen, absent={"va": "no-answer"})))
    bad("hospital_not_asked", settled(frozen=changed(frozen, cohort=["b", "va"])))
    few = {"b": "norm-too-large", "st-anna": "norm-too-large"}
    bad("too_few_hospitals", settled(excluded=few), "too-few-hospitals")
    foreign = {**frozen.contributions, OWN: drawn("foreign")}
    bad(
        "foreign_contribution", settled(frozen=changed(frozen, contributions=foreign)), "foreign-contribution"
    )
    bad("trailing_byte", (settled().to_bytes() + b"\x00").hex(), "malformed")
    return found.cases
