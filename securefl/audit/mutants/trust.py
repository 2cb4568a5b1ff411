"""Mutants whose hospitals believe the coordinator (its keys, committee, model), or hand it shares in the open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from protocols.contribution import RoundKey, share_context, sign
from protocols.envelope import OVERHEAD_BYTES, SealingKey
from protocols.errors import EncodingError
from protocols.prg import SEED_BYTES
from protocols.sharing import SEED, VECTOR, Shape, add_share, share, zeros
from protocols.signing import SigningKey
from securefl.audit.hostile import Answers, Attempted, context, same, try_round
from securefl.audit.mutants.naive_hospital import believing, contribution, opened_with
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, VICTIM
from securefl.errors import StudyError
from securefl.roles.messages import Announcement, Message, Refusal, SignedContribution, SignedRoundKey
from securefl.roles.terms import Terms
from securefl.training.server import ServerState, Vector

Reading = tuple[int, int, list[Refusal]]
"""Coordinates recovered, of how many, and the refusals."""


def _read(stage: Stage, answers: Answers, announcement: Announcement, keys: dict[str, SealingKey]) -> Reading:
    """Announce to every hospital, and open what comes with the attacker's keys."""
    said = {hospital: answers(hospital, announcement) for hospital in HOSPITALS}
    found = sum(
        same(opened_with(keys, announcement, message), stage.update(hospital))
        for hospital, message in said.items()
        if isinstance(message, SignedContribution)
    )
    refused = [message for message in said.values() if isinstance(message, Refusal)]
    return found, len(HOSPITALS) * announcement.context.size, refused


def _recovered(reading: Reading, how: str) -> Finding:
    found, size, _ = reading
    said = f"{how}: {found} of {size} coordinates of all {len(HOSPITALS)} hospitals' updates."
    return Finding(found == size, said, {"recovered": found, "coordinates": size})


def _refused(reading: Reading, reason: str) -> Finding:
    found, _, refused = reading
    right = [refusal for refusal in refused if refusal.reason == reason]
    said = (
        f"{len(right)} of {len(HOSPITALS)} hospitals refused the announcement ({reason}); nothing was sealed."
    )
    return Finding(
        not found and len(right) == len(HOSPITALS), said, {"refusals": len(right), "recovered": found}
    )


# -- keys that the coordinator hands out -----------------------------------------------------------------------------


def _hand_out_keys(believe: bool) -> Reading:
    with staged() as stage:
        stage.play_to_round_1()
        of, keys = context(stage), {party: SealingKey.generate() for party in PARTIES}
        announcement = _announced(stage, keys, dict.fromkeys(PARTIES, SigningKey.generate()), of.parties)
        return _read(stage, believing(stage) if believe else stage.ask, announcement, keys)


def _announced(
    stage: Stage, keys: dict[str, SealingKey], signers: dict[str, SigningKey], parties: list[str]
) -> Announcement:
    of = context(stage, parties=parties)
    made = [RoundKey(context=of.digest(), party=party, public=keys[party].public) for party in parties]
    signed = [SignedRoundKey(key=key, signature=sign(key, signers[key.party])) for key in made]
    return Announcement(context=of, cohort=list(HOSPITALS), keys=signed)


def _keys_break() -> Finding:
    return _recovered(_hand_out_keys(believe=True), "The coordinator opened every envelope with its own keys")


def _keys_caught() -> Finding:
    return _refused(_hand_out_keys(believe=False), "key-not-pinned")


# -- a committee shrunk to the colluders -----------------------------------------------------------------------------

COLLUDERS = PARTIES[:-1]
"""As many parties as the study's collusion bound allows for: all but one."""


def _shrink(believe: bool) -> Reading:
    """The coordinator announces the colluding parties as the whole committee, with keys that they sign."""
    with staged() as stage:
        stage.play_to_round_1()
        keys = {party: SealingKey.generate() for party in COLLUDERS}
        signers = {party: stage.people.keys[party].signing for party in COLLUDERS}
        announcement = _announced(stage, keys, signers, list(COLLUDERS))
        return _read(stage, believing(stage) if believe else stage.ask, announcement, keys)


def _shrunk_breaks() -> Finding:
    return _recovered(_shrink(believe=True), f"{len(COLLUDERS)} colluding parties held every share")


def _shrunk_caught() -> Finding:
    finding = _refused(_shrink(believe=False), "other-parties")
    with staged() as stage:
        committee = stage.study.settings.committee.model_copy(update={"minimum_parties": len(COLLUDERS)})
        settings = stage.study.settings.model_copy(update={"committee": committee})
        try:
            Terms.of(replace(stage.study, settings=settings), stage.people.consortium)
            allowed = True
        except StudyError:
            allowed = False
    said = (
        f"{finding.sentence} A study that allows so small a committee is {'taken' if allowed else 'refused'}."
    )
    return Finding(finding.holds and not allowed, said, finding.numbers)


# -- a model that the coordinator chooses ----------------------------------------------------------------------------


def _dead(stage: Stage) -> Vector:
    """A model whose hidden units never fire, so that nothing but the last layer's bias is trained.

    The network's vector is weights and biases of the hidden layer, then those of the last one.
    """
    (hidden,), inputs = stage.study.settings.model.hidden, stage.trainers[VICTIM].layout.shapes[0][1]
    model = stage.replica.state.model.copy()
    model[hidden * inputs : hidden * inputs + hidden] = -1e6
    return model


def _choose_model(believe: bool) -> tuple[Attempted, int, int]:
    """Every hospital but one is sent the dead model; the sum is then that one's update, but for the last bias."""
    with staged() as stage:
        stage.play_to_round_1()
        model, dead = stage.replica.state.model, _dead(stage)

        def trains_what_it_is_sent(name: str, announcement: Announcement) -> Message:
            values = stage.trainers[name].update(model if name == VICTIM else dead, 1)
            return contribution(stage, name, stage.terms.update.encode(values), announcement)

        truth = stage.update(VICTIM)
        if believe:
            tried = try_round(stage, context(stage), answers=trains_what_it_is_sent)
        else:
            chosen = ServerState.initial(dead).digest()
            tried = try_round(stage, context(stage, model=chosen))
        return tried, 0 if tried.total is None else same(tried.total, truth), truth.size


def _model_breaks() -> Finding:
    tried, found, size = _choose_model(believe=True)
    included = len(tried.settled.signed.outcome.included) if tried.settled else 0
    said = f"The sum over {included} hospitals gave {found} of {size} coordinates of {VICTIM}'s update."
    # Two classes: the last layer has two biases.
    return Finding(found >= size - 2, said, {"recovered": found, "coordinates": size, "in_the_sum": included})


def _model_caught() -> Finding:
    tried, found, _ = _choose_model(believe=False)
    said = f"{len(tried.refusals)} of {len(HOSPITALS)} hospitals refused to train from it ({', '.join(tried.reasons)})."
    refused = tried.reasons == {"other-model"} and len(tried.refusals) == len(HOSPITALS)
    return Finding(refused and not found, said, {"refusals": len(tried.refusals), "recovered": found})


# -- shares in the open ----------------------------------------------------------------------------------------------


def _carry(parts_of: Callable[[Stage, str], list[bytes]]) -> tuple[int, int, int]:
    """The coordinator adds up what it carries, as it stands or without an envelope's ends.

    Returns:
        Coordinates recovered, of how many, and the parts that had a share's length, of the hospital's.
    """
    with staged() as stage:
        stage.play_to_round_1()
        of, best, most = context(stage), 0, 0
        shape = Shape(of.size, of.width)
        truth = stage.update(VICTIM)
        parts = parts_of(stage, VICTIM)
        for cut in (lambda part: part, lambda part: part[OVERHEAD_BYTES - 16 : -16]):
            total, added = zeros(shape), 0
            for rank, part in enumerate(parts):
                with suppress(EncodingError):
                    add_share(total, _as_share(cut(part)), rank, share_context(of, VICTIM))
                    added += 1
            best, most = max(best, same(total, truth)), max(most, added)
        return best, of.size, most


def _as_share(content: bytes) -> bytes:
    """The content read as a share of the form that its length tells, whatever its own last byte says."""
    return content[:-1] + (SEED if len(content) == SEED_BYTES + 1 else VECTOR)


def _open_shares(stage: Stage, hospital: str) -> list[bytes]:
    bound = share_context(context(stage), hospital)
    return [bytes(part) for part in share(stage.update(hospital), len(PARTIES), 0, bound)]


def _sealed_shares(stage: Stage, hospital: str) -> list[bytes]:
    tried = try_round(stage, context(stage))
    return tried.contributions[hospital].envelopes if tried.contributions else []


def _carried_breaks() -> Finding:
    found, size, _ = _carry(_open_shares)
    said = f"The coordinator added up what it carried: {found} of {size} coordinates of {VICTIM}'s update."
    return Finding(found == size, said, {"recovered": found, "coordinates": size})


def _carried_caught() -> Finding:
    found, size, added = _carry(_sealed_shares)
    said = f"What it carries is sealed: {added} parts added up, {found} of {size} coordinates came out right."
    return Finding(found <= 1 and added == len(PARTIES), said, {"recovered": found, "coordinates": size})


MUTANTS = (
    Mutant(
        "keys-from-the-coordinator",
        "keys-are-pinned",
        "A hospital seals its shares to whatever keys the announcement brings.",
        _keys_break,
        _keys_caught,
    ),
    Mutant(
        "shrunk-committee",
        "committee-is-not-shrunk",
        "A hospital shares its update among whichever parties the announcement names.",
        _shrunk_breaks,
        _shrunk_caught,
    ),
    Mutant(
        "model-from-the-coordinator",
        "model-is-not-chosen",
        "A hospital trains from the model that comes with the announcement.",
        _model_breaks,
        _model_caught,
    ),
    Mutant(
        "shares-in-the-open",
        "coordinator-sees-envelopes",
        "Hospitals hand their shares to the coordinator, which passes them on.",
        _carried_breaks,
        _carried_caught,
    ),
)
