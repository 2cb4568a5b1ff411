"""Whoever checks receipts, written from ``protocols/vectors/CLIENT.md``; it shares no code with the toolkit.

A comment's number is that document's section. ``study`` has what section 2 lists: study, hospitals (name: (signing,
sealing)), parties, minimum, minimum_parties, rounds, encodings (by purpose: width, bits, limit), learning_rate,
momentum, trainable.
"""

import hashlib
import re
from pathlib import Path

import cbor2
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

P61 = 2**61 - 1
PLAIN = {"name": str, "tstr": str, "digest": bytes, "signature": bytes, "bstr": bytes, "int": int}
# 9: the rules are read where they stand, so that they are right.
RULES = (Path(__file__).parents[2] / "protocols/vectors/CLIENT.md").read_text().split("```")[-2]
FIELD = re.compile(r"([a-z_]+): (\[\* [a-z-]+|\{ \* name => [a-z]+|[a-z-]+)")
RECORDS = re.findall(r"^([a-z-]+) = \{(.*?)\} ;", RULES, re.M | re.S)
FORMS = {kind: dict(FIELD.findall(body)) for kind, body in RECORDS}


class Refused(Exception):  # noqa: N818
    """Its argument is the reason."""


def need(condition, reason):
    if not condition:
        raise Refused(reason)


def cbor(value):  # 1
    return cbor2.dumps(value, canonical=True)


def fits(value, form):
    if form in PLAIN:
        return type(value) is PLAIN[form] and (form != "int" or -(2**64) <= value < 2**64)
    if form[0] == "[":
        return type(value) is list and all(fits(entry, form[3:]) for entry in value)
    if form[0] == "{":
        entry = form.split()[-1]
        return type(value) is dict and all(fits(k, "name") and fits(v, entry) for k, v in value.items())
    fields = FORMS[form]
    fitting = value.keys() == fields.keys() and all(fits(value[name], fields[name]) for name in fields)
    if fitting and form == "integrity-answer":
        digests = (len(value["outcome"]), len(value["challenge"]))
        return 0 <= value["value"] < P61 and digests == (32, 32)
    return fitting


def read(data, reason="malformed"):
    try:
        kind, fields = value = cbor2.loads(data)
        need(type(value) is list and cbor(value) == data and fits(fields, kind), reason)
    except Exception as error:
        raise Refused(reason) from error
    return kind, fields


def digest(kind, value):
    return hashlib.sha256(cbor(["securefl", kind, value])).digest()


def to_sign(kind, fields):
    return cbor(["securefl-signature-1", kind, digest(kind, fields)])


def check_signatures(kind, fields, publics, signatures, reason):
    try:
        for public, signature in zip(publics, signatures, strict=True):
            Ed25519PublicKey.from_public_bytes(public).verify(signature, to_sign(kind, fields))
    except Exception as error:
        raise Refused(reason) from error


def hkdf(secret, info):
    return HKDF(SHA256(), length=32, salt=None, info=cbor(info)).derive(secret)


def stream(seed, label, context, size):
    key = hkdf(seed, ["securefl-prg-1", label, context])
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def signed(data, width):
    return np.frombuffer(data, f"<i{width // 8}")


def included(outcome):  # 6
    return sorted(outcome["frozen"]["contributions"].keys() - outcome["excluded"].keys())


def inner_product(chi, values):  # 7
    words = np.frombuffer(stream(chi, "integrity-challenge", b"", 8 * len(values)), "<u8") & np.uint64(P61)
    return sum(int(word) * int(value) for word, value in zip(words, values, strict=True)) % P61


def commit(coin, context, hospital):  # 5; of the context the digest
    return digest("integrity-coin", [coin, context, hospital])


def challenge_of(outcome, coins, reason):  # 7
    name, by_name = digest("outcome", outcome), {c["hospital"]: c["coin"] for c in coins}
    need(len(by_name) == len(coins) and sorted(by_name) == included(outcome), reason)
    for c in coins:
        own, hospital = c["contribution"], c["hospital"]
        need(c["outcome"] == name and own["hospital"] == hospital and len(c["coin"]) == 32, reason)
        need(digest("contribution", own) == outcome["frozen"]["contributions"][hospital], reason)
        need(own["coin"] == commit(c["coin"], digest("round", outcome["context"]), hospital), reason)
    return digest("integrity-challenge", [name, by_name])


class Chain:
    """What follows from the outcomes so far."""

    def __init__(self, study, model):
        self.study, self.round, self.previous = study, 0, digest("beginning", study.study)
        self.x, self.v, self.trained, self.opened = np.array(model, "<f8"), np.zeros(len(model)), 0, None

    def model(self):  # 2
        vectors = [hashlib.sha256(vector.tobytes()).digest() for vector in (self.x, self.v)]
        return digest("model", [self.trained, *vectors])

    def check_context(self, context):  # 4.1 to 4.3
        need(context["study"] == self.study.study, "other-study")
        purpose = "update" if context["round"] else "statistics"
        counted = 0 <= context["round"] <= self.study.rounds and 1 <= context["attempt"] <= 2**32
        need(counted and context["purpose"] == purpose, "other-round")
        width = self.study.encodings[purpose][0]
        need(context["width"] == width and 1 <= context["size"] <= 2**31, "other-encoding")

    def check_committee(self, names, reason):  # 4.4
        ranked = [party for party in self.study.parties if party in names]
        need(names == ranked and len(names) >= self.study.minimum_parties, reason)

    def check_cohort(self, cohort, round_):  # 4.8
        need(cohort == sorted({*cohort} & self.study.hospitals.keys()), "unknown-hospital")
        least = self.study.minimum if round_ else len(self.study.hospitals)
        need(len(cohort) >= least, "too-few-hospitals")

    def check_signed(self, kind, fields, parties, signatures):
        self.check_committee(parties, "other-chain")
        keys = [self.study.parties[party] for party in parties]
        check_signatures(kind, fields, keys, signatures, "other-chain")

    def check_outcome(self, outcome, signatures, total):  # 6
        context, frozen, size = outcome["context"], outcome["frozen"], len(total) * 8
        link = (context["study"], context["round"], context["previous"])
        need(link == (self.study.study, self.round, self.previous), "other-chain")
        self.check_signed("outcome", outcome, context["parties"], signatures)
        need(frozen["context"] == digest("round", context), "other-chain")
        need(outcome["excluded"].keys() <= frozen["contributions"].keys(), "other-chain")
        named = sorted([*frozen["contributions"], *frozen["absent"]])
        need(named == sorted(frozen["cohort"]) == sorted({*named}), "other-chain")
        need(outcome["total"] == hashlib.sha256(total).digest(), "other-chain")
        need(context["model"] == self.model() and size == context["size"] * context["width"], "other-chain")
        self.check_context(context)
        need(context["round"] == 0 or context["size"] == len(self.x), "other-chain")
        self.check_cohort(included(outcome), context["round"])

    def follow(self, outcome, total):  # 6
        context, t = outcome["context"], self.study.trainable
        delta = signed(total, context["width"]) * 2.0 ** -self.study.encodings[context["purpose"]][1]
        self.round, self.previous = self.round + 1, digest("outcome", outcome)
        if context["round"] == 0:
            self.opened = delta
            return
        self.v[:t] = self.study.momentum * self.v[:t] + delta[:t]
        self.x = np.concatenate([self.x[:t] + self.study.learning_rate * self.v[:t], self.x[t:] + delta[t:]])
        self.trained += 1

    def sum_is_right(self, outcome, total, coins, answers):  # 8
        chi = challenge_of(outcome, coins, "not-verified")
        need(sorted(a["answer"]["hospital"] for a in answers) == included(outcome), "not-verified")
        for given in answers:
            answer, public = given["answer"], self.study.hospitals[given["answer"]["hospital"]][0]
            asked = (digest("outcome", outcome), chi)
            need((answer["outcome"], answer["challenge"]) == asked, "not-verified")
            check_signatures("integrity-answer", answer, [public], [given["signature"]], "not-verified")
        values = signed(total, outcome["context"]["width"])
        small = max(int(values.max()), -int(values.min())) < 2**60
        claimed = sum(given["answer"]["value"] for given in answers)
        return small and claimed % P61 == inner_product(chi, values)

    def check_closing(self, closing, signatures, checks):  # 8; checks: a digest a round, or nothing
        self.check_signed("closing", closing, closing["parties"], signatures)
        end = {"study": self.study.study, "rounds": self.round, "last": self.previous, "model": self.model()}
        end["unverified"] = [number for number, record in enumerate(checks) if not record]
        end |= {"parties": closing["parties"], "verifications": digest("verifications", checks)}
        need(closing == end and self.round == self.study.rounds + 1, "other-chain")
