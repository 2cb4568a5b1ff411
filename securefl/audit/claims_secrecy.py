"""Claims on who sees what."""

from __future__ import annotations

from securefl.audit.registry import Claim

_ALL_BUT_ONE = (
    "all parties of a round's committee but one, with the coordinator, the network and other hospitals"
)
_COORDINATOR = "the coordinator and the network, which write, drop, delay and replay messages as they like"

SECRECY = (
    Claim(
        id="parties-see-nothing",
        statement="Of the honest hospitals' updates, all parties of a round's committee but one together learn the "
        "opened sum, where norms are checked one verdict each, and nothing else.",
        adversary=f"{_ALL_BUT_ONE}; they follow the program",
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=("protocols.sharing.share", "protocols.prg.Stream.fill", "protocols.prg.new_seed"),
        how=("construction", "statistical test", "attack"),
        error="Each statistic raises a false alarm at most once in 10^9, all together at most once in 10^5 runs.",
        shown=(
            "tests/guarantees/test_view_simulation.py::test_a_view_has_the_structure_of_the_simulated_one",
            "tests/guarantees/test_view_simulation.py::test_the_view_with_the_explicit_share_looks_uniform",
            "tests/guarantees/test_view_simulation.py::test_control_a_faulty_expansion_is_caught",
            "tests/securefl/roles/test_secrecy.py::test_no_share_is_in_any_store_or_on_any_wire",
        ),
        limits="The whole committee together reads every update. A study may allow a committee of fewer than all "
        "parties, and always of more than its collusion bound. Sums and models tell something of the records "
        "themselves: without `[privacy]` nothing hides one patient. What colluding hospitals know, they can subtract. "
        "It rests on AES-256.",
        mutants=("short-seed", "one-scalar-mask"),
    ),
    Claim(
        id="view-is-simulated",
        statement="What all parties of a committee but one see of a run can be made from the sums over the honest "
        "hospitals alone: a trained distinguisher guesses no better than a coin, on real or simulated views and on two "
        "inputs of the same sums.",
        adversary=f"{_ALL_BUT_ONE}; they follow the program, and may choose every update",
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=("protocols.sharing.share", "protocols.prg.Stream.fill", "protocols.prg.new_seed"),
        how=("construction", "statistical test", "attack"),
        error="A fair coin is taken for a distinguisher at most once in 10^9; of 600 views, one that is right in 3 of "
        "4 cases is missed at most once in 10^6.",
        shown=(
            "tests/guarantees/test_distinguisher.py::test_the_distinguisher_guesses_like_a_coin",
            "tests/guarantees/test_distinguisher.py::test_it_guesses_like_a_coin_whoever_colludes",
            "tests/guarantees/test_distinguisher.py::test_control_a_weak_leak_is_learnt",
            "tests/guarantees/test_view_simulation.py::test_a_view_has_the_structure_of_the_simulated_one",
        ),
        limits="A distinguisher finds coarse faults. Against all that run in feasible time the promise rests on "
        "AES-256 and on the argument in `protocols.sharing`. Envelopes, keys and what a norm check opens are in other "
        "claims. Seeds of 32 bits are scaled down to 8.",
        mutants=(
            "seed-of-32-bits",
            "scalar-mask",
            "mask-of-a-study",
            "server-rebuilds-keys",
            "half-a-mask",
        ),
    ),
    Claim(
        id="contexts-are-bound",
        statement="A contribution is good for one study, round, attempt, history, purpose, hospital and party, and "
        "nowhere else.",
        adversary=_COORDINATOR,
        colluding=("coordinator", "network", "party"),
        behaviour="malicious",
        where=("protocols.contribution.binding", "protocols.envelope.SealingKey.open"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/protocols/test_contribution.py::test_an_envelope_opens_only_in_its_round",
            "tests/protocols/test_contribution.py::test_an_envelope_opens_only_for_its_sender_and_recipient",
            "tests/protocols/test_contribution.py"
            "::test_under_another_model_or_committee_the_shares_are_noise_and_the_signature_does_not_hold",
            "tests/protocols/test_contribution.py::test_a_signature_on_one_kind_is_none_on_another",
        ),
        limits="Model and committee are bound by the masks and by the hospital's signature, not by the envelope's "
        "seal. Whoever has the party's round key can read the envelope, and knows what it was bound to.",
        mutants=("envelope-without-context",),
    ),
    Claim(
        id="sizes-tell-nothing",
        statement="How long a message is depends on the study, the round and the members' names, and never on records.",
        adversary="whoever counts bytes on the network, or sees messages go by",
        colluding=("network", "coordinator"),
        behaviour="semi-honest",
        where=("protocols.contribution.contribute", "protocols.sharing.share", "protocols.canonical.encode"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/guarantees/test_message_sizes.py::test_two_studies_with_other_records_have_messages_of_the_same_sizes",
            "tests/guarantees/test_message_sizes.py::test_control_a_message_that_packs_its_content_is_seen",
            "tests/protocols/test_contribution.py::test_sizes_say_who_holds_the_vector_and_nothing_else",
        ),
        limits="Who takes part, how often and when, the model's size, and how long training takes are seen. A hospital "
        "that refuses says why, in words of some length.",
        mutants=("compressed-updates",),
    ),
    Claim(
        id="no-secret-is-left",
        statement="No key, mask, seed or update stands in any log, report, store of another, checkpoint or dump that a "
        "run leaves.",
        adversary="whoever gets the folder of a run, its logs or its report, but not the members' key folders",
        colluding=("reader", "thief"),
        behaviour="malicious",
        where=(
            "securefl.durable.write",
            "securefl.durable.sweep",
            "securefl.roles.party.PartyMachine._forget_spool",
            "protocols.envelope.SealingKey.private_bytes",
            "securefl.cli.app.main",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/guarantees/test_nothing_secret_is_left.py::test_no_secret_of_a_whole_run_is_in_any_byte_that_it_leaves",
            "tests/guarantees/test_nothing_secret_is_left.py::test_control_a_planted_secret_is_found_in_every_form",
            "tests/securefl/audit/test_images.py::test_an_update_is_found_however_its_numbers_are_written",
            "tests/securefl/audit/test_images.py::test_what_is_not_found_is_what_the_claim_leaves_out",
            "tests/processes/test_local_engine.py::test_no_private_key_and_no_seed_stands_anywhere_else",
            "tests/securefl/roles/test_secrecy.py::test_no_share_is_in_any_store_or_on_any_wire",
            "tests/securefl/test_durable.py::test_what_a_killed_process_has_left_unfinished_is_swept",
        ),
        limits="A core dump by the operating system holds everything, and so does swap: switch both off. A hospital "
        "keeps its own update until the sum was checked, and who is killed while writing leaves that until the next "
        "start; a simulation keeps exhibits, and says so. Secrets are searched for in a dozen forms, and updates as "
        "floats and integers of either byte order and as text. Not found are numbers that were rounded, scaled, added "
        "to a model or put into another order, and what is compressed but by gzip and zip, or under another cipher.",
        mutants=("dump-with-variables", "log-of-everything"),
    ),
    Claim(
        id="masks-are-used-once",
        statement="A mask hides one vector: each sharing draws new seeds, and seed, round, hospital and party all make "
        "it; an opening mask is drawn once.",
        adversary=_ALL_BUT_ONE,
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=(
            "protocols.sharing.share",
            "protocols.contribution.share_context",
            "protocols.zero_sharing.PairwiseKeys.streams",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/protocols/test_sharing.py::test_every_sharing_draws_its_own_seeds",
            "tests/protocols/test_contribution.py::test_masks_are_bound_to_the_round_and_to_the_hospital",
            "tests/protocols/test_zero_sharing.py::test_contexts_give_unrelated_shares_and_each_is_drawn_once",
        ),
        limits="Which opening masks were drawn is remembered for one session of the committee; the next has new keys.",
        mutants=("mask-used-twice",),
    ),
    Claim(
        id="openings-are-masked",
        statement="What a party sends to open the sum is uniform but for the sum, whoever the other colluders are.",
        adversary="up to P - 1 of a committee's P parties together; they follow the program",
        colluding=("party",),
        behaviour="semi-honest",
        where=("protocols.zero_sharing.zero_share", "protocols.committee.Committee.prepare"),
        how=("construction", "statistical test", "attack"),
        error="The 64 bits are balanced; false alarm at most once in 10^4.",
        shown=(
            "tests/protocols/test_zero_sharing.py::test_no_proper_subset_of_the_shares_sums_to_zero",
            "tests/protocols/test_committee.py::test_an_opening_share_looks_uniform_whatever_the_share",
            "tests/guarantees/test_stock_crypten.py"
            "::test_two_neighbours_unmask_the_party_between_them_in_the_stock_ring",
        ),
        limits="P - 1 parties know the last one's share of the sum, since the sum and their own shares tell it.",
        mutants=("ring-of-seeds",),
    ),
    Claim(
        id="no-seeded-secrets",
        statement="Masks and coins are drawn from 256 bits of the operating system's source, and keys from it too; "
        "torch's, NumPy's and Python's generators and the study's seed reach none of them.",
        adversary="whoever knows the study, its seed and every generator's state",
        colluding=("researcher", "reader"),
        behaviour="malicious",
        where=("protocols.prg.new_seed", "protocols.crypten_repairs.guarded_randomness"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/guarantees/test_sources_of_secrets.py"
            "::test_every_secret_of_a_study_was_drawn_from_the_operating_system",
            "tests/guarantees/test_sources_of_secrets.py"
            "::test_control_a_seed_that_was_not_drawn_as_it_is_is_found_out",
            "tests/guarantees/test_stock_crypten.py::test_nothing_of_ours_asks_torch_for_randomness",
            "tests/protocols/test_norm_program.py::test_torch_is_asked_for_no_randomness",
            "tests/protocols/test_crypten_repairs.py"
            "::test_every_draw_of_crypten_is_refused_while_guarded_and_works_again_afterwards",
        ),
        limits="The operating system's source and the `cryptography` library are believed.",
        mutants=("masks-from-torch",),
        tested={
            "protocols.crypten_repairs.guarded_randomness": "test_every_draw_of_crypten_is_refused_while_guarded"
            "_and_works_again_afterwards",
        },
    ),
    Claim(
        id="coordinator-sees-envelopes",
        statement="The coordinator carries sealed envelopes, each bound to its round, sender and recipient, and never "
        "a share in the open.",
        adversary=_COORDINATOR,
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=(
            "protocols.contribution.contribute",
            "protocols.envelope.seal",
            "protocols.envelope.SealingKey.open",
        ),
        how=("construction", "statistical test", "attack"),
        error="Each statistic raises a false alarm at most once in 10^9.",
        shown=(
            "tests/guarantees/test_view_simulation.py::test_through_envelopes_the_coalition_sees_no_more",
            "tests/protocols/test_contribution.py::test_an_envelope_opens_only_in_its_round",
            "tests/protocols/test_contribution.py::test_an_envelope_opens_only_for_its_sender_and_recipient",
        ),
        limits="It sees who takes part, when, for how long, and how large the model is. In the local engine it runs on "
        "the computer that holds all keys, and hides nothing from that computer.",
        mutants=("shares-in-the-open",),
    ),
    Claim(
        id="keys-are-pinned",
        statement="A hospital seals only to round keys that are signed by the parties' pinned keys.",
        adversary=_COORDINATOR,
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=(
            "securefl.roles.hospital.HospitalMachine._round_keys",
            "securefl.consortium.Consortium.digest",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/roles/test_hospital.py::test_keys_that_the_pinned_keys_did_not_sign_are_refused",
            "tests/securefl/roles/test_hospital.py::test_every_partys_key_must_be_there_once_in_order",
            "tests/securefl/test_consortium.py::test_any_change_of_a_pinned_key_changes_the_digest",
        ),
        limits="Members compare the fingerprints of `consortium.toml` themselves: who is shown a false file is lost.",
        mutants=("keys-from-the-coordinator",),
    ),
    Claim(
        id="committee-is-not-shrunk",
        statement="No update is shared among fewer parties than the study allows, which are more than may collude.",
        adversary="the coordinator with as many parties as the collusion bound allows",
        colluding=("coordinator", "network", "party"),
        behaviour="malicious",
        where=("protocols.chain.Signers.check_members", "securefl.roles.terms.Terms.check_committee"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/roles/test_terms.py::test_a_committee_has_more_parties_than_may_collude",
            "tests/securefl/roles/test_terms.py"
            "::test_the_committee_of_a_round_is_all_parties_unless_the_study_allows_fewer",
            "tests/protocols/test_chain.py::test_no_other_committee_makes_an_outcome_although_all_of_it_signed",
        ),
        limits="A study may allow a smaller committee (`minimum_parties`) if its collusion bound is smaller still.",
        mutants=("shrunk-committee",),
    ),
    Claim(
        id="model-is-not-chosen",
        statement="A hospital trains only the model that it computed by itself from outcomes that all parties signed.",
        adversary=_COORDINATOR,
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=("securefl.roles.hospital.HospitalMachine._announced", "securefl.roles.replica.Replica.follow"),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/roles/test_hospital.py::test_an_announcement_of_another_context_is_refused",
            "tests/securefl/roles/test_replica.py::test_following_twice_or_out_of_order_is_refused",
            "tests/securefl/roles/test_whole_study.py::test_every_role_computes_the_same_replica",
        ),
        limits="All parties together can sign a false sum, and with it choose the next model once; see "
        "wrong-sums-are-noticed. The study's author chooses the first model.",
        mutants=("model-from-the-coordinator",),
    ),
    Claim(
        id="past-rounds-stay-sealed",
        statement="Whoever seizes every party after a round's outcome cannot open that round's envelopes.",
        adversary="a network that recorded everything, and later has every party's disk and pinned keys",
        colluding=("network", "coordinator", "thief"),
        behaviour="malicious",
        where=(
            "securefl.roles.party.PartyMachine._key_request",
            "securefl.roles.party.PartyMachine._settled",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/roles/test_secrecy.py"
            "::test_round_keys_and_parts_of_coins_are_in_no_store_and_on_no_wire",
            "tests/securefl/roles/test_party.py::test_a_restart_forgets_the_key_and_with_it_the_attempt",
            "tests/securefl/roles/test_party.py::test_nothing_of_a_round_is_left_after_its_outcome",
        ),
        limits="A key is dropped, not overwritten: what the operating system leaves in memory or swap is out of scope. "
        "A hospital keeps its own update until the sum was checked.",
        mutants=("long-lived-keys",),
    ),
    Claim(
        id="dealer-sees-no-data",
        statement="The dealer learns how much randomness is asked for, and nothing of shares, openings or verdicts.",
        adversary="a curious dealer that works with no party",
        colluding=("dealer",),
        behaviour="semi-honest",
        where=(
            "protocols.dealer.Dealer.serve_session",
            "protocols.dealer.DealtTuples.draw",
            "securefl.consortium.create",
        ),
        how=("construction", "statistical test", "attack"),
        error="All bits are balanced; false alarm at most once in 10^6 a kind.",
        shown=(
            "tests/protocols/test_dealer.py::test_without_one_party_s_shares_the_others_see_uniform_bits",
            "tests/protocols/test_norm_program.py::test_a_dealer_that_works_with_one_party_reads_the_projections",
            "tests/protocols/test_norm_program.py::test_a_lying_dealer_turns_verdicts_and_leaves_the_sum_alone",
            "tests/securefl/test_consortium.py::test_a_dealer_is_a_member_of_its_own_kind",
        ),
        limits="With any one party it reads what enters the norm check: 160 linear functions of each update, or a "
        "shorter update itself. "
        "If it lies, verdicts are wrong, and each may tell one bit of its choice. Only studies with a norm bound have "
        "a dealer.",
        mutants=("a-party-deals",),
    ),
    Claim(
        id="private-keys-stay-home",
        statement="Private keys lie in files of mode 0600 and in no message, log, report, store or exception.",
        adversary="readers of run folders, logs and reports",
        colluding=("reader",),
        behaviour="malicious",
        where=("securefl.consortium.make_member", "securefl.durable.write", "securefl.consortium.load_keys"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/processes/test_local_engine.py::test_private_files_are_private_and_nothing_else_is_left",
            "tests/processes/test_local_engine.py::test_no_private_key_and_no_seed_stands_anywhere_else",
            "tests/securefl/roles/test_host.py::test_the_secrets_of_jobs_and_writes_do_not_show",
        ),
        limits="A simulation holds all members' keys in one folder. Root reads everything.",
        mutants=("keys-for-everybody",),
    ),
)
