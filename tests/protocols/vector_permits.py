"""Known answers of a hospital in a domain: what it answers to an announcement under what permit."""

from __future__ import annotations

from protocols.signing import SigningKey
from securefl.permit import Permit, Revocation, SignedPermit, SignedRevocation
from tests.protocols.vector_dialogues import DUO, Dialogues, step
from tests.protocols.vector_world import OWN, STUDY, announced, changed, drawn

STEWARD, STRANGER = SigningKey(drawn("steward")), SigningKey(drawn("another steward"))
BEGINS, EXPIRES = 1_700_000_000, 1_800_000_000
PERMIT = Permit(
    number=drawn("permit", size=16), study=STUDY, proposal=drawn("proposal"), hospital=OWN, dataset="records",
    purpose="to show the bytes", runs=1, epsilon="", delta="", unit="", not_before=BEGINS, expires=EXPIRES,
    steward="steward@va.example", researcher="researcher@uni.example", reason="",
)  # fmt: skip


def permit_cases(world):
    found, steward = Dialogues(world), {"steward": STEWARD.public.hex()}
    context = changed(world.contexts[1], parties=DUO)
    good, contributes, declines = announced(context), "signed-contribution", "not-approved"

    def files(permit=PERMIT, key=STEWARD, revocation=None, by=STEWARD, time=BEGINS):
        signed = SignedPermit.of(permit, key).to_bytes().hex() if permit else ""
        revoked = SignedRevocation.of(revocation, by).to_bytes().hex() if revocation else ""
        return {"permit": signed, "revocation": revoked, "time": time}

    revocation = Revocation(permit=PERMIT.number, time=BEGINS, reason="the patients objected")
    found.good("permitted", 1, step(good, kind=contributes, **files()), **steward)
    found.good("in_the_last_second", 1, step(good, kind=contributes, **files(time=EXPIRES - 1)), **steward)
    again = step(good, kind=contributes, same=True, **files())
    found.good("permitted_again", 1, step(good, kind=contributes, **files()), again, **steward)

    def bad(name, announcement=good, outcomes=1, before=(), **given):
        last = step(announcement, declines=declines, **{**files(), **given})
        found.good(f"bad_{name}", outcomes, *before, last, **steward)

    bad("no_permit", **files(None))
    bad("permit_expired", **files(time=EXPIRES))
    bad("permit_not_yet_valid", **files(time=BEGINS - 1))
    bad("permit_for_another_study", **files(changed(PERMIT, study=drawn("other"))))
    bad("permit_for_another_hospital", **files(changed(PERMIT, hospital="b")))
    bad("permit_signed_by_another", **files(key=STRANGER))
    limited = changed(PERMIT, epsilon="1", delta="0.00001", unit="patient")
    bad("permit_with_an_epsilon", **files(limited))
    other_kind = SignedPermit(permit=PERMIT, signature=STEWARD.sign("revocation", PERMIT.digest()))
    bad("permit_signature_of_other_kind", permit=other_kind.to_bytes().hex())
    bad("permit_trailing_byte", permit=files()["permit"] + "00")
    bad("permit_truncated", permit=files()["permit"][:-2])
    bad("permit_is_a_revocation", permit=files(revocation=revocation)["revocation"])
    bad("permit_revoked", **files(revocation=revocation))
    bad("revocation_of_another_permit", **files(revocation=changed(revocation, permit=bytes(16))))
    bad("revocation_by_another", **files(revocation=revocation, by=STRANGER))
    bad("revocation_truncated", revocation=files(revocation=revocation)["revocation"][:-2])
    made = step(good, kind=contributes, **files())
    bad("revoked_before_the_same_announcement", before=[made], **files(revocation=revocation))
    bad("no_permit_and_behind", outcomes=0, **files(None))
    later = changed(context, previous=world.contexts[0].previous)
    bad("no_permit_and_another_chain", announced(later), **files(None))
    # What comes before it.
    for name, reason, fields in (
        ("no_permit_and_another_study", "other-study", {"study": drawn("other")}),
        ("no_permit_and_one_party", "other-parties", {"parties": ["uni"]}),
    ):
        refused = {"message": announced(changed(context, **fields)).to_bytes().hex(), "reason": reason}
        found.good(f"bad_{name}", 1, {**refused, **files(None)}, **steward)
    # What was declined is not remembered.
    declined = step(good, declines=declines, **files(None))
    permitted = step(announced(context, ("b", "va")), kind=contributes, **files())
    found.good("permitted_later", 1, declined, permitted, **steward)
    return found.cases
