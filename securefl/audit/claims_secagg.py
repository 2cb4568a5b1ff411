"""Claims on the drop-in secure aggregation for Flower apps (``protocols.pairwise``, ``securefl.secagg``)."""

from __future__ import annotations

from securefl.audit.registry import Claim

_SERVER = "a server that follows the protocol and keeps everything, with fewer than t clients"

SECAGG = (
    Claim(
        id="pairwise-sum-only",
        statement="Of the honest clients' vectors, a server with fewer than t clients learns the sum over at "
        "least t clients that sent theirs, and nothing else, whoever leaves or comes late.",
        adversary=_SERVER,
        colluding=("coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=(
            "protocols.pairwise.client.Client.mask",
            "protocols.pairwise.masking.add_own",
            "protocols.pairwise.masking.add_pair",
            "protocols.pairwise.policy.Policy.check_roster",
        ),
        how=("construction", "statistical test", "attack"),
        error="Each statistic raises a false alarm at most once in 10^9.",
        shown=(
            "tests/guarantees/test_pairwise_view.py::test_what_the_coalition_sees_of_an_honest_client_looks_uniform",
            "tests/guarantees/test_pairwise_view.py::test_the_coalition_computes_all_that_can_be_computed",
            "tests/guarantees/test_pairwise_view.py::test_a_vector_that_comes_late_stays_hidden",
            "tests/guarantees/test_pairwise_view.py::test_control_one_scalar_for_a_vector_is_caught",
            "tests/protocols/test_pairwise_protocol.py::test_the_sum_is_that_of_plain_integers_whoever_leaves_when",
        ),
        limits="The sum itself tells something, and two sums over different clients differ by what one of "
        "them sent: fix the cohort. A server that does not follow the protocol is withstood with "
        "pinned keys only. A client may send any values that keep the sum within the bounds.",
        mutants=("pairwise-scalar-mask", "pairwise-no-own-mask"),
    ),
    Claim(
        id="pairwise-256-bit-keys",
        statement="Each mask is expanded from 256 bits, drawn by the operating system or agreed on with X25519, "
        "that are fresh in each exchange and bound to it, to both names and to all public keys.",
        adversary=_SERVER,
        colluding=("coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=(
            "protocols.pairwise.keys.mask_seed",
            "protocols.pairwise.keys.new_secret",
            "protocols.pairwise.client.Client.advertise",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/protocols/test_pairwise_keys.py::test_both_of_a_pair_get_the_same_key_of_256_bits",
            "tests/protocols/test_pairwise_keys.py::test_a_pairs_key_is_bound_to_names_keys_and_roster",
            "tests/protocols/test_pairwise_keys.py::test_every_exchange_has_new_keys",
            "tests/guarantees/test_pairwise_view.py::test_two_exchanges_have_nothing_in_common",
            "tests/guarantees/test_pairwise_view.py::test_control_short_mask_keys_are_found_by_trying",
            "tests/guarantees/test_pairwise_view.py::test_the_same_search_finds_nothing_among_the_real_keys",
        ),
        limits="X25519 takes about 2^128 steps, and falls to a quantum computer: masked vectors that were "
        "recorded could be read then.",
        mutants=("pairwise-short-key", "pairwise-key-reused"),
    ),
    Claim(
        id="pairwise-one-secret",
        statement="For each other client, a client reveals a share of one of its two secrets and never of both, "
        "once in an exchange.",
        adversary=_SERVER,
        colluding=("coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=(
            "protocols.pairwise.client.Client.unmask",
            "protocols.pairwise.client.Client.mask",
            "securefl.secagg.claims.claim",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/protocols/test_pairwise_protocol.py::test_a_client_never_gives_both_secrets_of_one",
            "tests/protocols/test_pairwise_protocol.py::test_each_step_is_answered_once",
            "tests/guarantees/test_pairwise_view.py"
            "::test_of_an_honest_client_in_the_sum_the_coalition_has_one_secret_only",
            "tests/guarantees/test_pairwise_view.py::test_control_a_client_that_reveals_both_secrets_is_read",
            "tests/securefl/secagg/test_strategy.py::test_a_step_that_two_processes_answer_at_once_is_answered_once",
        ),
        limits="Without pinned keys what was answered is remembered in Flower's context alone: a SuperNode "
        "that was set back may answer again.",
        mutants=("pairwise-both-shares",),
        tested={
            "securefl.secagg.claims.claim": "test_a_step_that_two_processes_answer_at_once_is_answered_once",
        },
    ),
    Claim(
        id="pairwise-pinned",
        statement="With pinned keys a client takes part only with clients whose keys are signed by the pinned "
        "ones, and opens only the sum that t clients agreed on, over c + 2 clients at least.",
        adversary="a server that does as it likes, with c clients where 2t > n + c",
        colluding=("coordinator", "network", "hospital"),
        behaviour="malicious",
        where=(
            "protocols.pairwise.policy.Policy.check_terms",
            "protocols.pairwise.policy.Policy.check_roster",
            "protocols.pairwise.policy.Policy.check_pinned",
            "protocols.pairwise.client.Client._check_agreements",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/protocols/test_pairwise_protocol.py"
            "::test_a_server_with_keys_of_its_own_is_refused_under_pinned_keys_and_reads_all_without",
            "tests/protocols/test_pairwise_protocol.py::test_with_pinned_keys_an_unsigned_exchange_is_refused",
            "tests/protocols/test_pairwise_protocol.py::test_no_sum_is_over_fewer_than_two_honest_clients",
            "tests/protocols/test_pairwise_protocol.py"
            "::test_two_who_work_with_the_server_do_not_get_a_sum_of_one_more",
            "tests/protocols/test_pairwise_protocol.py::test_two_lists_cannot_both_be_agreed_on",
            "tests/protocols/test_pairwise_protocol.py::test_control_without_the_check_two_lists_are_both_opened",
            "tests/securefl/secagg/test_strategy.py::test_with_pinned_keys_an_unsigned_server_gets_nothing",
        ),
        limits="By default no keys are pinned, and the server is believed about them: one that hands out its "
        "own reads everything. With pinned keys it still says who takes part.",
        mutants=("pairwise-keys-from-the-server",),
        tested={
            "protocols.pairwise.client.Client._check_agreements": "test_two_lists_cannot_both_be_agreed_on",
        },
    ),
    Claim(
        id="secagg-fails-closed",
        statement="A ClientApp with the mod answers train and evaluate messages under the protocol or with an "
        "error, and what a reply holds beside arrays and metrics is dropped.",
        adversary="a server without its half of the protocol, or with another app",
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=(
            "securefl.secagg.client_mod.SecureMod.__call__",
            "securefl.secagg.strategy.SecureAggregation.__init__",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/secagg/test_client_mod.py::test_a_message_that_is_no_step_gets_no_reply_of_the_app",
            "tests/securefl/secagg/test_client_mod.py::test_whatever_the_server_sends_the_answer_is_a_refusal",
            "tests/securefl/secagg/test_strategy.py::test_nobodys_values_pass_in_the_open",
            "tests/securefl/secagg/test_strategy.py::test_what_a_reply_holds_beside_arrays_and_metrics_is_dropped",
            "tests/securefl/secagg/test_flower_app.py"
            "::test_half_of_the_difference_does_not_send_an_update_in_the_open",
        ),
        limits="`query` messages pass through, and so does what the app itself prints or sends by another "
        "way. A SuperNode of Flower runs whatever app its SuperLink sends, also one without the mod.",
        mutants=("secagg-without-mod",),
        tested={
            "securefl.secagg.strategy.SecureAggregation.__init__": "test_nobodys_values_pass_in_the_open",
        },
    ),
    Claim(
        id="secagg-own-bounds",
        statement="A client with pinned keys takes the weight, bounds and width that were set on it, and counts no "
        "more clients than have pinned keys: a server learns nothing of single numbers by choosing them.",
        adversary="a server that names other bounds in each exchange",
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=("securefl.secagg.client_mod.SecureMod._checked",),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/secagg/test_strategy.py"
            "::test_the_server_cannot_search_for_a_clients_numbers_with_bounds_of_its_own",
            "tests/securefl/secagg/test_strategy.py::test_the_server_cannot_make_the_ring_coarse",
            "tests/securefl/secagg/test_strategy.py"
            "::test_control_in_a_coarse_ring_rounding_tells_of_single_weights",
        ),
        limits="Without pinned keys the server sets the bounds. In either case a refusal tells that something of a "
        "client's is beyond them.",
        mutants=("secagg-bounds-of-the-server",),
    ),
    Claim(
        id="secagg-same-work",
        statement="In one sum are only clients that were given the same model and the same configuration of message "
        "and run: a client that got others than all agreed on does not train.",
        adversary="a server that gives clients different work, to read one's update from the sum",
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=(
            "securefl.secagg.client_mod.SecureMod._check_work",
            "securefl.secagg.work.work_of",
            "securefl.secagg.work.setting_of",
            "protocols.pairwise.client.Client._check_setting",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/secagg/test_work.py::test_a_server_that_gives_all_but_one_nothing_to_learn_gets_no_sum",
            "tests/securefl/secagg/test_work.py::test_control_without_the_check_it_reads_that_ones_update",
            "tests/securefl/secagg/test_work.py::test_whatever_is_changed_of_the_work_changes_its_digest",
            "tests/securefl/secagg/test_work.py::test_a_client_that_got_other_work_does_not_train",
            "tests/securefl/secagg/test_work.py::test_a_server_that_gives_all_but_one_no_epoch_gets_no_sum",
            "tests/securefl/secagg/test_work.py::test_control_without_settings_it_reads_that_ones_update",
        ),
        limits="What all get, the server chooses: a model or settings that make the sum tell more of the records than "
        "a step of training needs to are not noticed; nor is another app, which also comes from the SuperLink. "
        "Without pinned keys the server is believed about the keys, and needs no such trick.",
        mutants=("secagg-other-work", "secagg-other-setting"),
    ),
)
