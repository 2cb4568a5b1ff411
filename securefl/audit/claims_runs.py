"""Claims on what a run withstands: absence, faults of the network, strange messages, crashes."""

from __future__ import annotations

from securefl.audit.registry import Claim

RUNS = (
    Claim(
        id="missing-hospitals-cost-themselves",
        statement="A hospital that declines, is silent or contributes badly costs its own contribution and nobody "
        "else's, and the receipt says why it is not there.",
        adversary="hospitals and links that fail or misbehave, as long as the minimum is left",
        colluding=("hospital", "network"),
        behaviour="malicious",
        where=(
            "securefl.roles.coordinator.CoordinatorMachine._leave_out",
            "securefl.roles.terms.Terms.check_list",
        ),
        how=("property test", "attack"),
        shown=(
            "tests/securefl/roles/test_coordinator.py"
            "::test_a_silent_hospital_is_left_out_at_the_deadline_and_comes_back",
            "tests/securefl/roles/test_coordinator.py"
            "::test_a_contribution_that_the_parties_refuse_costs_only_its_hospital",
            "tests/processes/test_faults.py::test_a_stopped_hospital_process_is_waited_for",
        ),
        limits="Why a hospital is absent is the coordinator's word: it can leave out whom it likes, down to the "
        "minimum. The statistics round needs everyone, and one hospital can spoil its sums for all, which no norm "
        "bound covers: totals that no records have end the study, all others are believed, and nobody can say who sent "
        "them.",
        mutants=("pairwise-masks",),
    ),
    Claim(
        id="faults-end-in-errors",
        statement="Whatever goes wrong on the committee's channel ends in a typed error that names the peer, at the "
        "latest at the deadline.",
        adversary="peers that crash, stall, restart or run out of step; a network that loses messages",
        colluding=("party", "network"),
        behaviour="malicious",
        where=("protocols.mesh_session.Mesh.receive", "protocols.mesh_session.Mesh.send"),
        how=("property test", "attack"),
        shown=(
            "tests/protocols/test_mesh.py::test_silence_ends_at_the_deadline_and_names_the_peer",
            "tests/protocols/test_mesh.py"
            "::test_a_message_out_of_step_or_too_long_names_the_peer_and_ends_the_session",
            "tests/protocols/test_mesh.py::test_a_waiting_party_learns_at_once_that_a_peer_left_the_session",
            "tests/processes/test_faults.py::test_a_stopped_party_is_waited_for",
        ),
        limits="The deadline is for one operation. A party that floods its peers is not withstood, and one that always "
        "fails ends the run.",
        mutants=("wait-without-end",),
    ),
    Claim(
        id="channel-is-authenticated",
        statement="The committee's channel is authenticated both ways: a party's messages are read by, and come from, "
        "the holder of exactly the certificate that is pinned for its rank.",
        adversary="whoever is on the network, and a party that claims another's rank",
        colluding=("network", "party"),
        behaviour="malicious",
        where=(
            "protocols.mesh.GrpcMesh._peer_of",
            "protocols.mesh.GrpcMesh._channel",
            "protocols.certificates.check_party_certificate",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/protocols/test_mesh.py::test_an_impostor_at_a_peers_address_is_refused_at_once",
            "tests/protocols/test_mesh.py"
            "::test_a_party_cannot_claim_another_rank_and_nobody_calls_without_a_certificate",
            "tests/protocols/test_mesh.py"
            "::test_a_connection_that_is_not_tls_1_3_is_refused_although_its_certificate_is_pinned",
        ),
        limits="TLS hides neither when parties talk nor how much. It rests on gRPC's TLS 1.3.",
        mutants=("rank-by-word", "callers-without-certificates"),
    ),
    Claim(
        id="superlink-and-members-are-known",
        statement="Between a member's SuperNode and the SuperLink both ends are authenticated: the member by a key "
        "that the coordinator registered, the SuperLink by a certificate of its deployment's authority alone.",
        adversary="whoever is on the network, with keys and certificates of his own",
        colluding=("network",),
        behaviour="malicious",
        where=(
            "securefl.deploy.plan._coordinator",
            "securefl.deploy.plan._supernode",
            "securefl.deploy.authority.make_superlink",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/processes/flower/test_flower_engine.py"
            "::test_supernodes_without_a_registered_key_are_refused",
            "tests/securefl/deploy/test_superlink_trust.py"
            "::test_a_supernode_says_nothing_to_a_superlink_of_another_authority",
            "tests/processes/flower/test_confined_node.py"
            "::test_a_superlink_of_another_authority_is_not_spoken_to",
        ),
        limits="It rests on Flower's check of keys and on OpenSSL's TLS. The authority's key makes any SuperLink: who "
        "has it carries the sealed envelopes that the coordinator carries anyway. A coordinator registers whom it "
        "likes; who contributes is decided by the keys in `consortium.toml`.",
        mutants=("superlink-for-everybody", "authority-by-whoever-answers"),
    ),
    Claim(
        id="local-socket-is-private",
        statement="A party's process takes messages over a local socket that no other user of its computer can open.",
        adversary="other users of the party's computer, without its administrator's rights",
        colluding=("network",),
        behaviour="malicious",
        where=("securefl.engines.link.LinkServer.__init__",),
        how=("construction", "attack"),
        shown=("tests/securefl/engines/test_link.py::test_no_other_user_can_open_the_socket",),
        limits="The same user's other processes can, and so can root. What comes over it is checked as what comes from "
        "the network.",
        mutants=("socket-for-everybody",),
    ),
    Claim(
        id="any-bytes-are-answered",
        statement="Whatever bytes reach a role, it answers with a message, and what it refuses changes nothing.",
        adversary="whoever can send a role a message",
        colluding=("network", "coordinator", "hospital"),
        behaviour="malicious",
        where=(
            "securefl.roles.host.Answering.answer",
            "securefl.roles.messages.read_message",
            "protocols.canonical.decode",
        ),
        how=("property test", "attack"),
        shown=(
            "tests/securefl/roles/test_fuzz.py::test_a_mutant_is_refused_or_means_the_same",
            "tests/securefl/roles/test_fuzz.py::test_no_sequence_of_messages_leads_astray",
            "tests/protocols/test_canonical.py::test_arbitrary_bytes_are_a_value_or_an_encoding_error",
        ),
        limits="A message may be well formed and come at a bad moment: the coordinator can stop a study at any time.",
        mutants=("messages-on-trust",),
    ),
    Claim(
        id="crashes-cost-nothing",
        statement="Any process may be killed at any moment: without `[privacy]`, if it is started again before the "
        "deadline, the study ends with the model of an undisturbed run.",
        adversary="crashes and power failures",
        colluding=(),
        behaviour="none",
        where=("securefl.roles.host.Host.take", "securefl.durable.write"),
        how=("property test", "attack"),
        shown=(
            "tests/securefl/roles/test_crashes.py::test_a_role_killed_before_any_write",
            "tests/securefl/roles/test_crashes.py::test_a_role_killed_at_any_step",
            "tests/processes/test_local_engine.py::test_kill_9_at_any_moment",
        ),
        limits="A round that had to be repeated costs its time. A hospital that is still down at the deadline is left "
        "out of that sum; a party that stays down ends the run or leaves the committee. After several crashes a sum "
        "may stay unverified. In a private study every run draws other patients and noise, and a crash can cost the "
        "epsilon of an attempt. A disk that loses what it was told to keep is not withstood; see one-sum-a-round.",
        mutants=("written-in-place", "sent-before-kept"),
    ),
)
