"""A hospital's client, written from ``protocols/vectors/CLIENT.md``; it shares no code with the toolkit.

A comment's number is that document's section. Memory is not made durable here, as it must be there.
"""

import hashlib
import secrets

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite

from tests.protocols.independent_receipts import (
    P61,
    Chain,
    Refused,
    cbor,
    challenge_of,
    check_signatures,
    commit,
    digest,
    hkdf,
    included,
    inner_product,
    need,
    read,
    signed,
    stream,
    to_sign,
)


def encode(x, width, bits, limit):  # 5
    with np.errstate(all="ignore"):
        scaled = np.rint(np.asarray(x, "<f8") * 2.0**bits)
    need(np.isfinite(scaled).all() and int(abs(scaled).max()) <= limit, "update-not-encodable")
    return scaled.astype("<i8").astype(f"<u{width // 8}")


def share(x, seeds, holder, bound):  # a seed for each party; the holder's is not used
    rest = x.copy()
    for j in set(range(len(seeds))) - {holder}:
        mask = stream(seeds[j], "share", j.to_bytes(2, "big") + bound, x.nbytes)
        rest -= np.frombuffer(mask, x.dtype)
    return [rest.tobytes() + b"\1" if j == holder else seed + b"\0" for j, seed in enumerate(seeds)]


def plaintexts(x, context, name, seeds):
    first = hashlib.sha256(cbor([context["study"], name])).digest()[:8]
    holder = (int.from_bytes(first, "big") + context["round"]) % len(seeds)
    return share(x, seeds, holder, cbor([digest("round", context), name]))


def binding(context, name, party):
    same = {field: context[field] for field in ("study", "round", "attempt", "previous", "width", "size")}
    return cbor(["envelope", same | {"sender": name, "recipient": party, "content": context["purpose"]}])


def seal(public, plaintext, info):
    try:
        lattice = MLKEM768PublicKey.from_public_bytes(public[:1184])
        key = MLKEM768X25519PublicKey(lattice, X25519PublicKey.from_public_bytes(public[1184:]))
        return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).encrypt(plaintext, key, info)
    except ValueError as error:
        raise Refused("malformed") from error


def contribution(context, name, envelopes, coin):
    named, digests = digest("round", context), [blake3(envelope).digest() for envelope in envelopes]
    return {"context": named, "hospital": name, "envelopes": digests, "coin": commit(coin, named, name)}


def pair_element(scalar, points, names, context):  # 7; own point and name first
    point = X25519PublicKey.from_public_bytes(points[1])
    secret = X25519PrivateKey.from_private_bytes(scalar).exchange(point)
    purpose = cbor(["securefl-integrity-mask-1", context, *sorted(names)])
    element = int.from_bytes(hkdf(secret, ["securefl-agreement-1", purpose, *sorted(points)]), "little")
    return element if names[0] < names[1] else -element


class Client(Chain):
    def __init__(self, study, name, signing, sealing, model, statistics, update, permits=None):
        """Private keys; the initial model; functions: of nothing, of (model, opened statistics, round), 4.5's facts."""
        super().__init__(study, model)
        self.name, self.key, self.scalar = name, Ed25519PrivateKey.from_private_bytes(signing), sealing[64:]
        self.statistics, self.update, self.permits, self.wrong = statistics, update, permits, False
        self.answered, self.pledge, self.revealed = (None, None, [], 0), None, {}

    def answer(self, data):  # 3
        about = ""
        try:
            about, fields = read(data)
            need(about in ("announcement", "settled", "challenge", "verification"), "unexpected")
            return [cbor([*answer]) for answer in getattr(self, about)(fields)]
        except Refused as error:
            named = {"hospital": "", "reason": str(error), "explanation": f"For the reason {error}."}
            if str(error) in ("not-approved", "update-not-encodable"):
                named |= {"context": digest("round", fields["context"]), "hospital": self.name}
                return [cbor(["declined", named])]
            return [cbor(["refusal", {**named, "member": self.name, "about": about}])]

    def announcement(self, message):  # 4
        context, cohort, keys = message["context"], message["cohort"], message["keys"]
        self.check_context(context)
        self.check_committee(context["parties"], "other-parties")
        if self.permits:
            self.check_permit(*self.permits())
        need(not self.wrong, "wrong-sum")
        if context["round"] > self.round:
            return [("behind", {"hospital": self.name, "round": self.round})]
        need((context["round"], context["previous"]) == (self.round, self.previous), "other-chain")
        self.check_cohort(cohort, self.round)
        need(self.name in cohort, "not-in-cohort")
        need(context["model"] == self.model(), "other-model")
        named, announced = digest("round", context), digest("announcement", message)
        need([signed_key["key"]["party"] for signed_key in keys] == context["parties"], "other-parties")
        for key in keys:
            need(key["key"]["context"] == named, "other-key")
            pinned = self.study.parties[key["key"]["party"]]
            check_signatures("round-key", key["key"], [pinned], [key["signature"]], "key-not-pinned")
        if announced == self.answered[0]:
            return self.answered[2]
        need(named != self.answered[1], "second-announcement")
        need(context["attempt"] >= self.answered[3], "earlier-attempt")
        return self.contribute(context, [key["key"] for key in keys], announced)

    def check_permit(self, steward, permit, revocation, now):  # 4.5
        kind, record = read(permit, "not-approved")
        need(kind == "signed-permit" and revocation is None, "not-approved")
        given = record["permit"]
        check_signatures("permit", given, [steward], [record["signature"]], "not-approved")
        need((given["study"], given["hospital"]) == (self.study.study, self.name), "not-approved")
        need(given["not_before"] <= now < given["expires"] and not given["epsilon"], "not-approved")

    def contribute(self, context, keys, announced):  # 5
        values = self.update(self.x, self.opened, self.round) if self.round else self.statistics()
        need(len(values) == context["size"], "other-size")
        x = encode(values, *self.study.encodings[context["purpose"]])
        coin, *seeds = (secrets.token_bytes(32) for _ in range(1 + len(keys)))
        envelopes = [
            seal(key["public"], plaintext, binding(context, self.name, key["party"]))
            for key, plaintext in zip(keys, plaintexts(x, context, self.name, seeds), strict=True)
        ]
        made = contribution(context, self.name, envelopes, coin)
        self.pledge = (made, coin, x)
        signature = self.key.sign(to_sign("contribution", made))
        sent = {"contribution": made, "signature": signature, "envelopes": envelopes}
        self.answered = (announced, made["context"], [("signed-contribution", sent)], context["attempt"])
        return self.answered[2]

    def settled(self, message):  # 6
        outcome, total = message["signed"]["outcome"], message["total"]
        context, number = outcome["context"], outcome["context"]["round"]
        if number >= self.round:
            self.check_outcome(outcome, message["signed"]["signatures"], total)
            if self.pledge and self.pledge[0]["context"] == digest("round", context):
                self.begin_check(outcome, total, *self.pledge)
            self.follow(outcome, total)
            self.answered = (None, None, [], 0)
        coins = [made["coin"] for made in self.revealed.values() if made["round"] == number]
        answers = [("coin-revealed", coin) for coin in coins]
        return [*answers, ("accepted", {"member": self.name, "round": number})]

    def begin_check(self, outcome, total, made, coin, x):
        named, name = outcome["frozen"]["contributions"].get(self.name), digest("outcome", outcome)
        need(named in (None, digest("contribution", made)), "foreign-contribution")
        if self.name in included(outcome):
            shown = {"hospital": self.name, "outcome": name, "contribution": made, "coin": coin}
            kept = {"round": self.round, "outcome": outcome, "total": total, "x": x}
            self.revealed[name] = {**kept, "coin": shown, "answer": None}

    def challenge(self, message):  # 7
        name = message["outcome"]
        need(name in self.revealed, "other-outcome")
        made = self.revealed[name]
        chi = challenge_of(made["outcome"], message["coins"], "bad-challenge")
        need(made["coin"]["coin"] in [c["coin"] for c in message["coins"]], "bad-challenge")
        if made["answer"] is None:
            value = inner_product(chi, signed(made.pop("x").tobytes(), made["outcome"]["context"]["width"]))
            for peer in set(included(made["outcome"])) - {self.name}:
                points = [self.study.hospitals[h][1][1184:] for h in (self.name, peer)]
                value += pair_element(self.scalar, points, (self.name, peer), cbor([name, chi]))
            answer = {"outcome": name, "challenge": chi, "hospital": self.name, "value": value % P61}
            signature = self.key.sign(to_sign("integrity-answer", answer))
            made["answer"] = {"answer": answer, "signature": signature}
        need(made["answer"]["answer"]["challenge"] == chi, "second-challenge")
        return [("signed-answer", made["answer"])]

    def verification(self, message):  # 8
        made = self.revealed.get(message["outcome"], {"round": None})
        need(made["round"] == message["round"] and "total" in made, "other-outcome")
        if self.sum_is_right(made["outcome"], made["total"], message["coins"], message["answers"]):
            del made["total"]
        else:
            self.wrong = True
        return []
