"""Claims on what is opened: which sums, over whom, of what, and how anybody can tell."""

from __future__ import annotations

from securefl.audit.registry import Claim

_COORDINATOR = "a coordinator that calls attempts, cohorts and lists as it likes"

SUMS = (
    Claim(
        id="one-sum-a-round",
        statement="A party opens one sum in a round, and after a crash sends only the same bytes again.",
        adversary=f"{_COORDINATOR}, and kills any process at any moment",
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=(
            "securefl.roles.party.PartyMachine._release",
            "securefl.roles.party.PartyMachine._added",
            "securefl.roles.host.Host.take",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/roles/test_party.py::test_after_a_release_there_is_no_other_attempt",
            "tests/securefl/roles/test_party.py::test_a_released_party_only_sends_the_same_bytes_again",
            "tests/securefl/roles/test_party.py::test_two_cohorts_are_never_both_opened",
            "tests/securefl/roles/test_crashes.py::test_a_role_killed_before_any_write",
        ),
        limits="It needs one honest party whose disk keeps what was written. A round whose opening began and whose "
        "party then loses its disk is void, and ends the study.",
        mutants=("death-after-opening",),
    ),
    Claim(
        id="minimum-hospitals",
        statement="No sum over fewer hospitals than the study's minimum is opened.",
        adversary=_COORDINATOR,
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=("securefl.roles.terms.Terms.check_list", "securefl.roles.terms.Terms.check_cohort"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/roles/test_terms.py::test_a_list_accounts_for_its_cohort_and_is_long_enough",
            "tests/securefl/roles/test_party.py::test_lists_that_the_party_cannot_agree_to",
            "tests/securefl/roles/test_coordinator.py::test_too_few_contributions_end_the_run_naming_the_reasons",
        ),
        limits="Hospitals that collude count towards the minimum: it has to be two above their assumed number.",
        mutants=("list-of-one",),
    ),
    Claim(
        id="no-two-sums-of-a-model",
        statement="A party opens sums of updates of one model over one set of hospitals only, in whatever study.",
        adversary="a coordinator and researchers that run further studies of the same model, with other hospitals, "
        "or with another key under the name of one",
        colluding=("coordinator", "researcher"),
        behaviour="malicious",
        where=(
            "securefl.roles.party_memory.Ledger.check",
            "securefl.roles.party_memory.Ledger.enter",
            "securefl.roles.party.PartyMachine._release",
            "securefl.durable.create",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/roles/test_party_memory.py::test_any_other_cohort_is_refused_and_the_same_is_not",
            "tests/securefl/roles/test_party_memory.py"
            "::test_sums_of_which_no_two_differ_by_one_would_give_an_update_away",
            "tests/securefl/roles/test_openings.py"
            "::test_another_study_whose_cohort_differs_by_one_is_refused_at_the_freeze",
            "tests/securefl/roles/test_openings.py::test_another_study_of_the_same_cohort_is_opened",
            "tests/securefl/roles/test_openings.py::test_a_stolen_name_is_refused_for_updates_too",
            "tests/securefl/roles/test_openings.py::test_two_processes_that_release_at_the_same_moment_open_one_sum",
            "tests/securefl/roles/test_party_memory.py::test_a_damaged_entry_is_never_counted_as_nothing",
            "tests/securefl/roles/test_openings.py::test_the_ledger_is_written_before_the_release",
        ),
        limits="A party remembers the studies that it serves with one ledger (`securefl party serve --ledger`); with "
        "another folder, or other parties, it knows nothing of them. Two studies that train one model of the same "
        "hospitals in different ways open two sums of different updates. One state of the training is meant: the same "
        "weights in another round, with another velocity, or in a study that goes on from them, are another state, and "
        "its sum may be over other hospitals. Without [privacy] the difference of two such sums is nearly one "
        "hospital's update, the nearer the less the model moved in between; within a study, "
        "`cohort.minimum_hospitals` at the number of hospitals prevents it.",
        mutants=("two-studies-of-one-model", "several-studies-of-one-model", "one-name-for-two-keys"),
    ),
    Claim(
        id="no-count-difference",
        statement="Numbers of records are added once, over all hospitals; no difference of two totals is a hospital's.",
        adversary=f"{_COORDINATOR}; hospitals that drop out",
        colluding=("coordinator", "network", "hospital"),
        behaviour="malicious",
        where=("securefl.roles.terms.Terms.least", "securefl.roles.terms.Terms.check_context"),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/roles/test_terms.py::test_the_statistics_are_over_everyone_and_updates_over_the_minimum",
            "tests/securefl/roles/test_party.py::test_the_statistics_need_every_hospital",
            "tests/securefl/roles/test_coordinator.py::test_the_statistics_need_everyone",
        ),
        limits="All hospitals but one can subtract their own from the total. A second study opens a second total.",
        mutants=("count-difference",),
    ),
    Claim(
        id="exact-sum",
        statement="The opened sum is that of the encoded integers, in a private study with the parties' integer noise, "
        "bit for bit; what does not fit is refused by the hospital that made it.",
        adversary="none: accidents of arithmetic",
        colluding=(),
        behaviour="none",
        where=(
            "protocols.ring.Encoding.encode",
            "protocols.ring.Encoding.for_bound",
            "protocols.committee.Committee.open",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/guarantees/test_exact_sum.py::test_integers_are_summed_exactly",
            "tests/guarantees/test_exact_sum.py::test_the_committee_opens_the_integer_sum",
            "tests/guarantees/test_exact_sum.py::test_control_more_hospitals_than_agreed_give_another_sum",
            "tests/protocols/test_ring.py::test_a_number_becomes_its_nearest_integer_or_is_refused",
        ),
        limits="Encoding rounds each coordinate to the grid, 2^-f; the error of the sum is at most K half steps. Noise "
        "takes a coordinate out of the ring with a probability below 2^-100.",
        mutants=("no-room-for-the-sum",),
    ),
    Claim(
        id="model-is-determined",
        statement="The model follows from the receipts and the sums, bit for bit, whoever computes it and in whatever "
        "order messages came.",
        adversary="none: accidents of order, threads and restarts",
        colluding=(),
        behaviour="none",
        where=("securefl.training.server.ServerState.step", "securefl.training.determinism.settle"),
        how=("property test", "attack"),
        shown=(
            "tests/securefl/roles/test_whole_study.py::test_any_order_of_the_mail_gives_the_same_bytes",
            "tests/securefl/roles/test_whole_study.py::test_every_role_computes_the_same_replica",
            "tests/processes/test_local_engine.py::test_killed_stopped_and_resumed_a_study_ends_with_the_same_model",
            "tests/securefl/training/test_determinism.py::test_a_settled_process_computes_on_one_thread",
        ),
        limits="For the same hospitals in each sum, one lock file and one class of processor: training on another "
        "gives other updates. The study's code, if it brings some, has to repeat as well.",
        mutants=("floats-in-any-order",),
        tested={
            "securefl.training.determinism.settle": "test_a_settled_process_computes_on_one_thread",
        },
    ),
    Claim(
        id="norms-are-bounded",
        statement="An update of twice the study's norm bound or more is added with a probability of at most 2^-30, and "
        "one within the bound is refused with at most 2^-20.",
        adversary="hospitals that choose any vector, also for the ring's wrap-around, before the coin is drawn",
        colluding=("hospital",),
        behaviour="malicious",
        where=(
            "protocols.norm_bounds.NormCheck.for_bound",
            "protocols.projection.project",
            "protocols.norm_program.norm_verdicts",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/protocols/test_norm_bounds.py::test_every_check_keeps_both_promises",
            "tests/protocols/test_norm_bounds.py"
            "::test_two_entries_of_half_the_ring_are_seen_but_not_by_rows_of_signs",
            "tests/protocols/test_norm_program.py::test_verdicts_are_those_of_plain_integers",
            "tests/protocols/test_norm_program.py::test_from_shares_of_updates_to_verdicts",
        ),
        limits="For each attempt: who may try again has another chance. It needs parties that follow the program and a "
        "dealer that does not lie. Statistics are not checked, nor is anything in a study without a norm "
        "bound or in an insecure run. A short update can be harmful too.",
        mutants=("rows-of-signs", "coin-before-the-list"),
    ),
    Claim(
        id="offenders-are-named",
        statement="A hospital whose update is too long is left out of the sum and named in the outcome that all "
        "parties sign; the others' sum is opened.",
        adversary="hospitals that contribute any vector",
        colluding=("hospital",),
        behaviour="malicious",
        where=("securefl.roles.party.PartyMachine._checked", "protocols.chain.check_link"),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/audit/test_chain.py::test_who_was_excluded_by_the_norm_check_is_named",
            "tests/processes/test_faults.py::test_norms_are_checked_and_a_killed_dealer_comes_back",
            "tests/protocols/test_chain.py::test_only_hospitals_on_the_list_are_excluded",
        ),
        limits="Only studies with a norm bound. If too few hospitals are left, the round is not opened at all.",
        mutants=("no-norm-check",),
    ),
    Claim(
        id="wrong-sums-are-noticed",
        statement="Without `[privacy]`, a sum other than that of the included hospitals' updates passes the hospitals' "
        "check with a probability of at most 2^-60.",
        adversary="all parties together, with the coordinator, the network and every hospital that is not included",
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="malicious",
        where=(
            "protocols.integrity.check_answers",
            "securefl.roles.sum_check.check_verification",
            "securefl.roles.pledges.Pledges.challenged",
        ),
        how=("construction", "statistical test", "attack"),
        error="Modulo a small prime, lies pass as often as computed; false alarm at most once in 10^9.",
        shown=(
            "tests/protocols/test_integrity.py::test_any_other_sum_is_refused",
            "tests/protocols/test_integrity.py::test_a_wrong_sum_passes_as_often_as_promised_and_no_more",
            "tests/protocols/test_integrity.py"
            "::test_what_is_not_promised_an_included_hospital_that_lies_with_the_parties",
            "tests/securefl/audit/test_chain.py::test_a_sum_that_all_parties_lied_about_is_wrong",
        ),
        limits="An included hospital that lies together with the parties makes any sum pass, and one has to have told "
        "nobody its coin before it had the outcome. A hospital that does not answer leaves the sum unverified, and the "
        "closing record says so. A lie is noticed after the outcome, not before, and not whose it was. Answers are "
        "masked with X25519 alone. Nobody checks a sum of a private study, whose noise only the parties know, or of an "
        "insecure run.",
        mutants=("parties-lie", "challenge-known-early", "coins-without-commitments"),
    ),
    Claim(
        id="answers-tell-only-their-sum",
        statement="Of the honest hospitals' answers in the check of a sum nobody learns more than their sum, which the "
        "opened sum tells already.",
        adversary="all parties, the coordinator, the network and every included hospital but two",
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="malicious",
        where=(
            "protocols.integrity.PairMasks.mask",
            "protocols.integrity.answer",
            "securefl.roles.pledges.Pledges.challenged",
        ),
        how=("construction", "property test", "statistical test", "attack"),
        error="Masked answers are uniform; false alarm at most once in 10^9.",
        shown=(
            "tests/protocols/test_integrity.py::test_the_answers_of_honest_hospitals_are_uniform_but_for_their_sum",
            "tests/protocols/test_integrity.py::test_control_with_fewer_keys_the_answers_tell_more",
            "tests/protocols/test_integrity.py::test_one_other_honest_hospital_hides_an_answer",
            "tests/protocols/test_integrity.py::test_a_mask_that_is_used_twice_tells_an_equation",
            "tests/securefl/roles/test_pledges.py::test_a_challenge_is_answered_once_whenever_the_hospital_is_killed",
        ),
        limits="Every two included hospitals mask with what their pinned sealing keys agree on. If all but one work "
        "together, they know its mask, and by the sum its update as well. Who seizes a hospital's sealing key, or "
        "breaks X25519 later, learns one linear equation of that update a round, which confirms a guess of it.",
        mutants=("answers-without-masks",),
    ),
    Claim(
        id="receipts-verify-offline",
        statement="Whoever has the receipts and the pinned keys sees offline that a study's history is complete to its "
        "closing record, in order, and signed by every party: nothing was changed, dropped, added or reordered, "
        "and its model is computed with its signed files alone.",
        adversary="anyone but all parties together, after the fact",
        colluding=("coordinator", "network", "hospital", "researcher"),
        behaviour="malicious",
        where=("protocols.chain.check_chain", "securefl.audit.verify.verify"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/protocols/test_chain.py::test_a_dropped_or_duplicated_outcome_breaks_the_chain",
            "tests/protocols/test_chain.py::test_no_byte_of_the_record_may_be_changed",
            "tests/securefl/audit/test_verify.py::test_one_changed_byte_fails_and_is_named",
            "tests/securefl/audit/test_verify.py::test_a_missing_file_fails_and_is_named",
            "tests/securefl/audit/test_unsigned.py::test_files_beside_the_study_are_not_run",
        ),
        limits="It proves what was agreed, not that parties did not collude. Before the closing record a missing tail "
        "cannot be told from a study that goes on. All parties together could write another history.",
        mutants=(
            "receipts-without-a-chain",
            "history-without-an-end",
            "one-signature-is-enough",
            "built-where-it-lies",
        ),
    ),
)
