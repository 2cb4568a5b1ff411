"""GDPR and HIPAA, provision by provision: what the system does towards it, what it leaves open, and where that shows.

A table for whoever writes the assessment, not the assessment. Each line links to a measured figure or a receipt on the
same page, to a claim of the registry, or to a test. "Towards" is meant literally: no line says that a provision is met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from securefl.roles.terms import Terms

Kind = Literal["figure", "receipt", "claim", "test"]


@dataclass(frozen=True)
class Link:
    """Where something is shown.

    Attributes:
        kind: a "figure" or a "receipt" is a section of the page, by its anchor; a "claim" is one of the registry, by
            its id; a "test" is ``tests/file.py::test``.
        to: that anchor, id or test.
        text: what the reader clicks on.
    """

    kind: Kind
    to: str
    text: str


@dataclass(frozen=True)
class Provision:
    """One provision.

    Attributes:
        law, where: for example "GDPR", "Art. 5(1)(c)".
        asks: its subject, in our words, shortened.
        does: what the system does towards it.
        open: what it leaves to people.
        links: at least one.
    """

    law: str
    where: str
    asks: str
    does: str
    open: str
    links: Sequence[Link]


def _figure(anchor: str, text: str) -> Link:
    return Link("figure", anchor, text)


def _claim(id_: str) -> Link:
    return Link("claim", id_, id_)


def _test(path: str) -> Link:
    return Link("test", path, path.rpartition("::")[2].replace("_", " ").removeprefix("test "))


_RECEIPTS = Link("receipt", "receipts", "receipts and their verification")
_BYTES = _figure("sent", "what left each hospital")
_OPENED = _figure("opened", "what became readable")
_PRIVACY = _figure("privacy", "privacy spent")
_ATTACKS = _figure("attacks", "attacks")
_STUDY = _figure("study", "study and members")
_LIMITS = _figure("not-guaranteed", "not guaranteed")
_PROMISED = _figure("guaranteed", "guaranteed")
_RETENTION = _figure("retention", "retention and deletion")
_KEY_FILES = "tests/processes/test_local_engine.py::test_private_files_are_private_and_nothing_else_is_left"
_KEYS_NOWHERE = "tests/processes/test_local_engine.py::test_no_private_key_and_no_seed_stands_anywhere_else"
_ERASED = "tests/securefl/roles/test_party.py::test_nothing_of_a_round_is_left_after_its_outcome"
_KILL = "tests/processes/test_local_engine.py::test_kill_9_at_any_moment"
_MUTANTS = "tests/securefl/audit/test_mutants.py::test_a_naive_protocol_breaks_and_what_ships_does_not"
_TLS = (
    "tests/protocols/test_mesh.py"
    "::test_a_connection_that_is_not_tls_1_3_is_refused_although_its_certificate_is_pinned"
)


def provisions(terms: Terms | None) -> list[Provision]:
    """The table, in the words of this study's settings; ``terms`` is None if the study cannot be read."""
    return [*_gdpr(terms), *_hipaa(terms)]


def _gdpr(terms: Terms | None) -> list[Provision]:
    model = _model(terms)
    sums = _checked(terms)
    law = "GDPR"
    return [
        Provision(
            law, "Art. 5(1)(b)",
            "Purpose limitation: collected for specified purposes, not processed in a way incompatible with them.",
            "A run is tied to one study by its digest, which covers settings, code, members and purpose. Every role "
            "refuses messages of another study.",
            "Whether the purpose is compatible with the one of collection. The released model can serve any other.",
            [_STUDY, _claim("keys-are-pinned"), _claim("receipts-verify-offline")],
        ),
        Provision(
            law, "Art. 5(1)(c)",
            "Data minimisation: adequate, relevant and limited to what is necessary for the purposes.",
            "Records stay at their hospital. An update leaves it as sealed shares; of the hospitals' updates only sums "
            "are opened, over no fewer hospitals than the study's minimum. " + model,
            "Whether these records, features and rounds are necessary for the purpose.",
            [_BYTES, _OPENED, _PRIVACY, _claim("parties-see-nothing"), _claim("minimum-hospitals"),
             # Under privacy no number of records is opened at all.
             *([] if terms is not None and terms.private is not None else [_claim("no-count-difference")])],
        ),
        Provision(
            law, "Art. 5(1)(e)",
            "Storage limitation: kept in identifiable form no longer than necessary.",
            "Sealed parts, keys of a round and the hospital's own update are erased when the round does not need them "
            "any more. No copy of a record is made.",
            "For how long receipts, sums and model are kept. Files that are erased are not overwritten.",
            [_RETENTION, _claim("past-rounds-stay-sealed"), _test(_ERASED)],
        ),
        Provision(
            law, "Art. 5(1)(f)",
            "Integrity and confidentiality: appropriate security, against unauthorised processing and accidental loss.",
            "Secret sharing among organisations, sealed envelopes, pinned keys, mutual TLS 1.3 in the committee. "
            + sums,
            "Security of each member's own computers, disks, accounts and staff.",
            [_claim("parties-see-nothing"), _claim("coordinator-sees-envelopes"), _claim("channel-is-authenticated"),
             _RECEIPTS],
        ),
        Provision(
            law, "Art. 5(2)",
            "Accountability: the controller is responsible, and able to demonstrate it.",
            "Every round leaves a receipt that all parties of its committee signed, chained to the one before, and "
            "that anyone checks offline. This page is made from them.",
            "Everything that is not technical: legal basis, information of patients, contracts, decisions. No approval "
            "is recorded by this version.",
            [_RECEIPTS, _STUDY, _claim("receipts-verify-offline")],
        ),
        Provision(
            law, "Art. 25(1)",
            "Data protection by design: technical and organisational measures that implement the principles.",
            "Minimisation is the protocol itself, not a policy on top of it: no role but the hospital itself ever "
            "holds an update. Each promise has tests; most have an attack on a variant that lacks the protection.",
            "Whether the measures are appropriate to cost, state of the art and risk; organisational measures.",
            [_PROMISED, _LIMITS, _claim("parties-see-nothing"),
             _test(_MUTANTS)],
        ),
        Provision(
            law, "Art. 25(2)",
            "Data protection by default: only what is necessary for each purpose is processed by default.",
            "By default no sum over fewer than three hospitals is opened, all parties are needed, and hospitals check "
            "every sum that has no noise in it.",
            "Differential privacy and the norm check are NOT on by default: the study has to ask for them.",
            [_claim("minimum-hospitals"), _claim("committee-is-not-shrunk"), _PRIVACY],
        ),
        Provision(
            law, "Art. 32(1)(a)",
            "Pseudonymisation and encryption of personal data, where appropriate.",
            "What leaves a hospital is shared out and encrypted (HPKE with ML-KEM-768 and X25519) to keys that the "
            "committee's members sign for one round. No message has a field for a patient's name or number.",
            "Encryption of disks and backups. Records and a hospital's own update are in the clear on its computer.",
            [_BYTES, _claim("coordinator-sees-envelopes"), _claim("past-rounds-stay-sealed"), _RETENTION],
        ),
        Provision(
            law, "Art. 32(1)(b)",
            "Ongoing confidentiality, integrity, availability and resilience of systems.",
            "Confidentiality holds against all parties but one. Malformed messages are answered, and change nothing. "
            + sums,
            "Availability: coordinator, dealer and each party can stop a study.",
            [_claim("parties-see-nothing"), _claim("any-bytes-are-answered"), _claim("faults-end-in-errors"), _LIMITS],
        ),
        Provision(
            law, "Art. 32(1)(c)",
            "Ability to restore availability and access in a timely manner after an incident.",
            "Any process may be killed at any moment; a run goes on from what is on disk.",
            "Backups: of keys, of a party's ledger, of a hospital's privacy ledger.",
            [_claim("crashes-cost-nothing"), _test(_KILL), _RETENTION],
        ),
        Provision(
            law, "Art. 32(1)(d)",
            "A process for regularly testing and evaluating the effectiveness of the measures.",
            "securefl audit mutants attacks every promise with and without its protection; securefl attack runs "
            "published attacks on a simulation; securefl verify checks a run.",
            "To run them regularly, and to have them reviewed by somebody else: no outside audit has taken place.",
            [_ATTACKS, _RECEIPTS, _test(_MUTANTS)],
        ),
        Provision(
            law, "Art. 35(7)(a)",
            "Impact assessment: a systematic description of the processing and its purposes.",
            "What was trained, by whom, what left each site and who could read it, as input to the description.",
            "The description itself, with the legitimate interest where there is one.",
            [_STUDY, _BYTES, _OPENED, _RETENTION],
        ),
        Provision(
            law, "Art. 35(7)(b)",
            "Impact assessment: necessity and proportionality in relation to the purposes.",
            "The comparison of a simulation (report.html) shows what the model would be without the protection or "
            "without the other hospitals.",
            "The judgement. No software makes it.",
            [_STUDY, _LIMITS],
        ),
        Provision(
            law, "Art. 35(7)(c)",
            "Impact assessment: the risks to the rights and freedoms of data subjects.",
            "Attacks that were really run, privacy spent with its assumptions, and a list of what is not guaranteed.",
            "Likelihood and severity for these patients; risks that are not technical, such as bias of the model.",
            [_ATTACKS, _PRIVACY, _LIMITS],
        ),
        Provision(
            law, "Art. 35(7)(d)",
            "Impact assessment: the measures envisaged to address the risks.",
            "The promises, each with adversary, limits and tests.",
            "Measures for what is not guaranteed. Whether Art. 36 (prior consultation) applies.",
            [_PROMISED, _LIMITS, _RECEIPTS],
        ),
    ]  # fmt: skip


def _hipaa(terms: Terms | None) -> list[Provision]:
    law = "HIPAA, 45 CFR"
    return [
        Provision(
            law, "164.312(a)",
            "Access control: access only for those persons and programs that were granted it; unique identification, "
            "emergency access, automatic logoff, encryption.",
            "Members are named by pinned keys; private keys and homes are files of mode 0600. No role but the "
            "hospital can decrypt an update by itself.",
            "Users, logoff and emergency access on each member's systems; encryption at rest.",
            [_STUDY, _claim("private-keys-stay-home"), _claim("keys-are-pinned"), _test(_KEY_FILES),
             _test(_KEYS_NOWHERE)],
        ),
        Provision(
            law, "164.312(b)",
            "Audit controls: record and examine activity in systems that contain or use electronic protected health "
            "information.",
            "Receipts record each round: who was asked, who took part, what was opened, signed by the committee.",
            "Logs of who used the hospital's system and its records: this software keeps none.",
            [_RECEIPTS, _claim("receipts-verify-offline")],
        ),
        Provision(
            law, "164.312(c)",
            "Integrity: protect from improper alteration or destruction, with a mechanism to corroborate it.",
            "Contributions are signed, and bound to study, round and recipient. " + _checked(terms),
            "Integrity of the records themselves, at each hospital.",
            [_claim("receipts-verify-offline"), _claim("coordinator-sees-envelopes"), _RECEIPTS],
        ),
        Provision(
            law, "164.312(d)",
            "Person or entity authentication: verify that who seeks access is the one claimed.",
            "Each message that counts is signed by a pinned key; the committee's connections present pinned "
            "certificates, bound to their rank.",
            "Authentication of persons: a key stands for an organisation. Members compare fingerprints themselves.",
            [_STUDY, _claim("keys-are-pinned"), _claim("channel-is-authenticated")],
        ),
        Provision(
            law, "164.312(e)",
            "Transmission security: guard against unauthorised access and modification while in transit; encryption.",
            "Every share is sealed from hospital to party, through the coordinator; the committee's own channel is "
            "mutual TLS 1.3.",
            "Names, times and sizes of messages are visible to coordinator and network.",
            [_BYTES, _claim("coordinator-sees-envelopes"), _claim("channel-is-authenticated"), _test(_TLS)],
        ),
        Provision(
            law, "164.514(a)",
            "De-identification: information that does not identify an individual, and with no reasonable basis to "
            "believe that it can be used to do so.",
            "Nothing is claimed to be de-identified. Records stay where they are. " + _model(terms),
            "Whether sums and model are de-identified information.",
            [_OPENED, _PRIVACY, _LIMITS],
        ),
        Provision(
            law, "164.514(b)",
            "Either an expert's determination that the risk is very small, with methods and results documented, or the "
            "removal of eighteen kinds of identifiers, without actual knowledge that the rest identifies somebody.",
            "Neither is done. For an expert: epsilon with its assumptions, the results of the attacks, and the bytes "
            "that left.",
            "The determination, or the removal.",
            [_PRIVACY, _ATTACKS, _BYTES, _LIMITS],
        ),
    ]  # fmt: skip


def _model(terms: Terms | None) -> str:
    if terms is None:
        return "Whether the released model is protected is not known."
    if terms.private is None:
        return "The released model is NOT protected: this study has no differential privacy."
    return (
        f"What sums and model tell about one {terms.private.settings.unit} is bounded by epsilon and delta."
    )


def _checked(terms: Terms | None) -> str:
    if terms is None:
        return "Whether sums were checked is not known."
    if terms.checks_sums:
        return "The hospitals check each sum against the committee; receipts say which were not checked."
    return "The hospitals did NOT check the sums of this study."
