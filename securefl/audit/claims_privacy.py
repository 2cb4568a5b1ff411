"""Claims on what the opened sums and the released model tell of one patient, in studies with ``[privacy]``."""

from __future__ import annotations

from securefl.audit.registry import Claim

_ONLOOKER = "whoever sees every opened sum, knows all other records, and works with as many parties as the study allows"

PRIVACY = (
    Claim(
        id="noise-in-every-sum",
        statement="Every sum of updates that is opened in a private study has each party's discrete Gaussian noise in "
        "it, enough for the target without the colluding parties' part; none is opened without.",
        adversary=_ONLOOKER,
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=(
            "securefl.roles.committee_runner.CommitteeRunner._add",
            "securefl.roles.private_terms.PrivateTerms.party_variance",
            "protocols.noise.noisy",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/test_private_runs.py::test_every_sum_has_every_partys_noise",
            "tests/securefl/test_private_runs.py::test_nothing_of_a_sum_without_noise_is_kept",
            "tests/securefl/test_private_runs.py::test_the_first_round_is_a_roll_call",
            "tests/protocols/test_discrete_gaussian.py::test_law_is_exact",
        ),
        limits="Round 0 opens a roll call without noise: how many hospitals there are, each counting one whatever its "
        "records are. Parties add their noise by themselves: one that does not counts as a colluding one, and nobody "
        "notices. Hospitals check no sum of a private study.",
        mutants=("noise-forgotten",),
    ),
    Claim(
        id="one-patient-is-bounded",
        statement="One patient more or less in a hospital's file changes the integer sum of a round by at most the "
        "clip in L2 norm, exactly.",
        adversary=_ONLOOKER,
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=(
            "protocols.bounded_rounding.bounded_rounding",
            "securefl.training.private.PrivateTrainer.update",
            "securefl.data.partition.each_alone",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/protocols/test_bounded_rounding.py::test_norm_is_bounded_whatever_comes",
            "tests/guarantees/test_one_patient_of_the_file.py"
            "::test_one_patient_of_the_file_moves_the_sum_by_no_more_than_the_clip",
            "tests/securefl/training/test_private.py"
            "::test_one_patient_moves_the_integers_by_no_more_than_the_clip_exactly",
        ),
        limits="Each hospital keeps to it for its own patients. A patient with records at two hospitals is two. A "
        "study's own module must read each patient's records alone. Of a pool that a simulation deals out, the dealing "
        "is taken as given; so is whether a hospital has more patients than it may have, or too few to train and test.",
        mutants=("clip-then-round", "split-by-class"),
    ),
    Claim(
        id="draws-are-secret",
        statement="Who takes part in a round is drawn by the patient's own hospital from its operating system's "
        "source; the study's seed tells nothing of it.",
        adversary=_ONLOOKER,
        colluding=("party", "coordinator", "network", "hospital"),
        behaviour="semi-honest",
        where=(
            "securefl.training.sampling.poisson_sample",
            "securefl.training.private.PrivateTrainer.update",
        ),
        how=("construction", "statistical test", "attack"),
        error="Each statistic raises a false alarm at most once in 10^6.",
        shown=(
            "tests/securefl/training/test_sampling.py::test_there_is_no_seed_to_give_and_the_source_is_the_systems",
            "tests/securefl/training/test_sampling.py::test_everybody_is_drawn_at_the_rate_and_by_himself",
        ),
        limits="How long a hospital takes depends on how many patients it has drawn.",
        mutants=("draws-from-the-seed",),
    ),
    Claim(
        id="budget-over-all-studies",
        statement="A round that would exceed a hospital's budget, over all studies on the dataset, gets no "
        "contribution of that hospital; each attempt is charged on disk before the contribution leaves.",
        adversary="studies that ask again and again; crashes at any moment",
        colluding=("researcher", "coordinator"),
        behaviour="malicious",
        where=("securefl.privacy.ledger.PrivacyLedger.check", "securefl.roles.spending.Spending.charge"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/privacy/test_ledger.py::test_two_studies_on_one_dataset_add_up",
            "tests/securefl/privacy/test_ledger.py"
            "::test_a_study_that_is_chosen_by_what_the_first_one_gave_cannot_pass_the_budget",
            "tests/securefl/privacy/test_ledger.py::test_a_charge_is_made_once_whenever_the_process_dies",
            "tests/securefl/engines/test_hospital_node.py"
            "::test_a_hospital_with_a_budget_takes_no_part_in_a_study_without_privacy",
            "tests/securefl/test_private_runs.py::test_a_budget_that_is_spent_ends_the_hospitals_part",
        ),
        limits="Over several studies, each chosen after what those before gave, the budget holds with twice its delta. "
        "Copies of records in other folders have accounts of their own. Who can erase the whole ledger forgets what "
        "was spent.",
        mutants=("ledger-of-a-run", "budget-of-fixed-studies"),
    ),
)
