"""Claims on who may run what on whose data: approvals, people, letters, operators, nodes (``securefl.domain``)."""

from __future__ import annotations

from securefl.audit.registry import Claim

_SHARE = "whoever can write everything in the shared folder, and an accepted researcher with the own keys"

DOMAIN = (
    Claim(
        id="only-approved-digests-run",
        statement="What starts at a hospital is, byte for byte, the study whose digest its steward signed for, "
        "with the consortium that the hospital has joined.",
        adversary="researchers who propose again under a name that was approved; whoever changes files between "
        "review, approval and start",
        colluding=("researcher", "network"),
        behaviour="malicious",
        where=(
            "securefl.consent.Consent.permit",
            "securefl.domain.child.copy_study",
            "securefl.domain.proposal.check_study",
            "securefl.domain.request.Request.approve",
        ),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/guarantees/domain/test_sessions.py"
            "::test_a_change_after_the_review_is_not_approved_and_after_the_approval_does_not_run",
            "tests/guarantees/domain/test_sessions.py"
            "::test_an_old_permit_is_none_for_a_new_proposal_even_of_the_same_study",
            "tests/guarantees/domain/test_approvals.py::test_a_permit_with_any_one_bit_changed_is_refused",
            "tests/securefl/domain/test_child.py::test_one_changed_byte_after_the_approval_and_nothing_starts",
            "tests/guarantees/domain/test_stock_syft.py::test_a_job_that_is_changed_after_its_approval_still_runs",
        ),
        limits="A steward who approves without reading has approved. Libraries and the interpreter are the "
        "hospital's own: the digest has securefl's version, and not theirs. Who can write the "
        "steward's home and has the keys in it can approve anything.",
        mutants=("approval-by-name", "digest-at-approval-only"),
        tested={
            "securefl.domain.proposal.check_study": "test_a_change_after_the_review_is_not_approved_and_after_the"
            "_approval_does_not_run",
            "securefl.domain.request.Request.approve": "test_a_change_after_the_review_is_not_approved_and_after"
            "_the_approval_does_not_run",
        },
    ),
    Claim(
        id="consent-at-every-contribution",
        statement="Before each contribution the hospital's process reads its steward's permit: missing, "
        "expired, revoked, used up or for something else, and it declines, and the receipt says so.",
        adversary="researchers and operators that go on after an approval has ended, and that start again and "
        "again",
        colluding=("researcher", "coordinator", "network"),
        behaviour="malicious",
        where=(
            "securefl.roles.hospital.declined",
            "securefl.consent.Consent.permit",
            "securefl.domain.runs.Runs.begin",
            "securefl.domain.owner_session.Owner.revoke",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/roles/test_consent.py"
            "::test_a_revocation_in_the_middle_takes_the_hospital_out_and_the_receipts_say_why",
            "tests/securefl/roles/test_consent.py::test_a_revocation_while_it_trains_stops_the_contribution",
            "tests/securefl/roles/test_consent.py::test_what_was_answered_before_is_not_sent_again",
            "tests/securefl/test_permit.py::test_it_begins_and_expires_by_the_hospitals_own_clock",
            "tests/guarantees/domain/test_approvals.py::test_a_revocation_that_cannot_be_read_counts_as_one",
            "tests/guarantees/domain/test_sessions.py::test_a_revoked_approval_starts_nothing_and_its_researcher_is_nobody",
            "tests/processes/test_consortium.py::test_the_receipts_say_who_was_absent_and_why",
        ),
        limits="A revocation takes nothing back that was contributed before. The study's own code runs in "
        "the process that asks: it was reviewed, and its node is ended when the permit is. Time is "
        "the hospital's own clock. Runs are counted when they start, by the hospital's service, not "
        "at each contribution.",
        mutants=("permit-once", "runs-counted-at-the-end"),
        tested={
            "securefl.domain.owner_session.Owner.revoke": "test_a_revoked_approval_starts_nothing_and_its"
            "_researcher_is_nobody",
        },
    ),
    Claim(
        id="sender-is-who-signed",
        statement="A letter is from whoever signed it with a pinned key, for this recipient and number, and "
        "takes effect once.",
        adversary=_SHARE,
        colluding=("network", "researcher"),
        behaviour="malicious",
        where=("securefl.domain.frames.open_frame", "securefl.domain.seen.Cursor.check"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/guarantees/domain/test_transport.py::test_a_letter_laid_under_another_name_is_not_that_persons",
            "tests/guarantees/domain/test_transport.py::test_a_letter_that_is_repeated_is_taken_once",
            "tests/guarantees/domain/test_transport.py::test_a_letter_with_any_one_bit_changed_is_refused",
            "tests/guarantees/domain/test_sessions.py::test_nobody_approves_in_the_owners_name",
            "tests/guarantees/domain/test_stock_syft.py"
            "::test_a_peer_approves_its_own_job_by_writing_the_owners_name_as_the_sender",
        ),
        limits="The share can withhold or delay letters: the recipient's log names the numbers that are "
        "missing, and a late letter is taken late. Who has a person's home is that person.",
        mutants=("sender-by-envelope-text", "letters-taken-again"),
    ),
    Claim(
        id="peers-by-hand",
        statement="Nobody becomes a peer but by the person's own call with the fingerprint in hand, and another "
        "key under a known name is an error.",
        adversary=_SHARE,
        colluding=("network", "researcher"),
        behaviour="malicious",
        where=(
            "securefl.domain.session.Session.accept",
            "securefl.domain.peers.Peers.pin",
            "securefl.domain.mail.Mail.card_of",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/guarantees/domain/test_transport.py::test_a_stranger_who_writes_the_folder_stays_a_stranger",
            "tests/guarantees/domain/test_transport.py::test_a_card_that_is_swapped_is_an_error_and_is_used_for_nothing",
            "tests/guarantees/domain/test_sessions.py::test_nothing_in_the_folder_adds_a_peer_to_syft_or_to_us",
            "tests/guarantees/domain/test_stock_syft.py"
            "::test_whoever_answers_first_for_a_peer_has_its_key_and_a_new_key_is_taken_silently",
        ),
        limits="People have to compare fingerprints by another way than the share; one has 96 bits. Who "
        "accepts what was read out by somebody else has let that one in.",
        mutants=("share-adds-peers", "trust-on-first-use"),
    ),
    Claim(
        id="removed-keys-do-nothing",
        statement="What a removed peer's keys sign has no effect, not even what waited before, and they are "
        "pinned under no name again.",
        adversary="a removed peer who can write everything in the shared folder",
        colluding=("researcher", "network"),
        behaviour="malicious",
        where=("securefl.domain.peers.Peers.remove", "securefl.domain.mail.Mail.each"),
        how=("construction", "attack"),
        shown=(
            "tests/guarantees/domain/test_transport.py::test_a_removed_persons_keys_are_worth_nothing",
            "tests/securefl/domain/test_peers.py::test_neither_key_of_a_removed_person_comes_back_under_any_name",
            "tests/securefl/domain/test_mail.py"
            "::test_a_removed_persons_letters_do_nothing_even_those_that_came_before",
        ),
        limits="Here, at who removed it: others have to remove it themselves. With new keys, accepted by "
        "hand, the same person is back. A letter that took effect before is not undone; approvals for "
        "its writer are revoked.",
        mutants=("checked-on-arrival",),
    ),
    Claim(
        id="share-reads-nothing",
        statement="Of a letter's topic, time and body nothing can be read in the shared folder.",
        adversary="whoever reads all that ever lay in the shared folder",
        colluding=("network", "reader"),
        behaviour="malicious",
        where=("securefl.domain.frames.seal_frame",),
        how=("construction", "attack"),
        shown=(
            "tests/guarantees/domain/test_transport.py::test_nothing_readable_lies_in_the_folder",
            "tests/securefl/domain/test_frames.py::test_nothing_of_topic_time_or_body_is_outside_the_seal",
            "tests/guarantees/domain/test_sessions.py"
            "::test_the_private_records_leave_nothing_in_the_folder_or_at_the_researcher",
        ),
        limits="Who writes to whom, when, how often and how much can be seen, and cards lie in the open. "
        "Letters are sealed to long-term keys: who takes a recipient's key later reads what was "
        "recorded.",
        mutants=("letters-in-the-open",),
    ),
    Claim(
        id="bad-letters-stop-nobody",
        statement="Whatever lies in the shared folder, the next honest letter is taken; what is refused is put "
        "aside once and written down, within bounds.",
        adversary=_SHARE,
        colluding=("network", "researcher"),
        behaviour="malicious",
        where=(
            "securefl.domain.mail.Mail.fetch",
            "securefl.domain.relay.read_plain",
            "securefl.domain.quarantine.Quarantine.put",
            "securefl.domain.syft_rules.read_job",
        ),
        how=("property test", "attack"),
        shown=(
            "tests/guarantees/domain/test_sessions.py::test_no_malformed_message_stops_anything",
            "tests/guarantees/domain/test_transport.py"
            "::test_one_gigabyte_is_refused_by_its_size_and_is_not_read",
            "tests/guarantees/domain/test_transport.py"
            "::test_links_pipes_and_folders_are_not_followed_or_waited_for",
            "tests/guarantees/domain/test_transport.py::test_junk_files_do_not_fill_the_owners_disk_or_log",
            "tests/guarantees/domain/test_stock_syft.py::test_one_malformed_message_ends_every_later_sync",
        ),
        limits="The share can be full, away, or empty of the letter. Of one sender 200 refused files are "
        "kept and logged, the rest are refused without a line, and of 100,000 files in one folder no "
        "more are looked at.",
        mutants=("first-bad-letter-ends-the-look",),
        tested={
            "securefl.domain.syft_rules.read_job": "test_no_malformed_message_stops_anything",
        },
    ),
    Claim(
        id="launch-needs-every-hospital",
        statement="An operator puts a study into its member's folder only with a permit of every hospital of "
        "its consortium for this proposal, endorsed by the key that is pinned for the hospital.",
        adversary="researchers who name the stewards as they like, with stewards of other hospitals",
        colluding=("researcher", "steward", "network"),
        behaviour="malicious",
        where=(
            "securefl.domain.operator_session.Operator._check_permits",
            "securefl.permit.EndorsedPermit.checked",
            "securefl.domain.proposal.write_study",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/guarantees/domain/test_operators.py::test_only_what_every_hospital_of_the_study_approved_is_launched",
            "tests/guarantees/domain/test_operators.py::test_nobody_but_a_hospital_speaks_for_it",
        ),
        limits="An operator who launches more than that launches in vain: hospitals ask for their own "
        "permits. The study's code runs at the coordinator and the parties without walls of its own; "
        "no record is there. An operator checks when it launches, not later: a revocation stops the "
        "hospital, not the run of the others.",
        mutants=("stewards-by-the-proposal",),
    ),
    Claim(
        id="release-is-checked",
        statement="A model can be released only by the steward whom the approved proposal names, and only if "
        "the whole record of the approved study verifies under the hospital's own copy of the "
        "members' keys.",
        adversary="operators that send another model, and everybody else who sends one",
        colluding=("coordinator", "researcher", "network"),
        behaviour="malicious",
        where=(
            "securefl.domain.release.take_piece",
            "securefl.domain.release.Release.approve",
            "securefl.domain.verifying.verify_confined",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/guarantees/domain/test_operators.py::test_a_bogus_run_does_not_keep_the_true_one_away",
            "tests/guarantees/domain/test_operators.py::test_only_the_approver_releases",
            "tests/processes/test_consortium.py::test_the_story_is_told_to_its_end",
        ),
        limits="The coordinator, the parties and the hospitals hold every model of the run anyway: the "
        "release is for who is none of them. A study's own code builds the model where it is checked. "
        "What a released model tells of records is a matter of `[privacy]`.",
        mutants=("released-as-it-came",),
        tested={
            "securefl.domain.release.Release.approve": "test_a_bogus_run_does_not_keep_the_true_one_away",
        },
    ),
    Claim(
        id="log-is-chained",
        statement="An audit log from which a line was removed, or in which one was changed, moved, repeated or "
        "cut off, does not verify, and the first such line is named.",
        adversary="whoever can write the log's files; with the owner's key too, as long as a peer has kept a "
        "later head",
        colluding=("thief", "steward"),
        behaviour="malicious",
        where=("securefl.domain.log.verify", "securefl.domain.log.AuditLog.append"),
        how=("construction", "property test", "attack"),
        shown=(
            "tests/securefl/domain/test_log.py::test_a_spoilt_log_fails_and_names_the_line",
            "tests/securefl/domain/test_log.py"
            "::test_an_older_pair_of_log_and_head_is_found_out_by_who_kept_a_later_head",
            "tests/securefl/domain/test_log.py::test_an_owner_who_writes_another_log_is_found_out_by_who_kept_a_head",
            "tests/securefl/domain/test_mail.py::test_heads_of_logs_travel_and_tell_on_a_log_that_was_cut",
            "tests/processes/test_consortium.py::test_every_log_is_whole_and_tells_the_decisions",
        ),
        limits="What was done since the last letter can be rewritten by its owner unseen. A log says what "
        "its program wrote, and not that it was true.",
        mutants=("unchained-log", "log-without-witnesses"),
    ),
    Claim(
        id="node-is-confined",
        statement="A study's node sees its copy of the study, its records, its permit, its own memory and "
        "settings, the hospital's consortium keys, in a private study its privacy ledger, and the "
        "installed files of the system, Python and securefl, with an environment and limits of its own "
        "and one network address, and no other file, process or variable.",
        adversary="the code of a study that was approved",
        colluding=("researcher",),
        behaviour="malicious",
        where=(
            "securefl.domain.child.start",
            "securefl.domain.sandbox.start",
            "securefl.domain.sandbox.clean_environment",
            "securefl.domain.namespaces.shut",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/guarantees/domain/test_confinement.py::test_a_confined_study_finds_nothing_but_its_records",
            "tests/securefl/domain/test_sandbox.py::test_it_sees_and_reaches_what_it_was_given_and_nothing_else",
            "tests/securefl/domain/test_sandbox.py::test_limits_hold",
            "tests/securefl/domain/test_sandbox.py::test_nothing_outlives_it_not_even_a_daemon",
            "tests/securefl/domain/test_child.py"
            "::test_it_runs_without_a_superlink_until_it_is_stopped_or_its_permit_ends",
            "tests/guarantees/domain/test_stock_syft.py"
            "::test_a_job_reads_the_owners_environment_and_files_and_writes_them",
        ),
        limits="The installed files are `/usr`, `/bin`, `/sbin`, `/lib`, a few of `/etc` (`passwd`, `group` and "
        "`hosts` among them) and the folders of Python and securefl: the node can read what else was put "
        "there, and cannot write there. Where the system makes no user namespaces only environment and "
        "limits hold, and the log says `NOT fully confined`; an audit there says that it cannot show this "
        "claim. The kernel is trusted; there is no seccomp filter. The code can use the hospital's "
        "consortium keys while it runs, and can hide records in its update.",
        mutants=("runner-as-the-owner",),
        tested={
            "securefl.domain.child.start": "test_it_runs_without_a_superlink_until_it_is_stopped_or_its_permit_ends",
            "securefl.domain.namespaces.shut": "test_it_sees_and_reaches_what_it_was_given_and_nothing_else",
        },
    ),
    Claim(
        id="members-run-one-app",
        statement="A member's SuperNode stores and runs one Flower app, the installed securefl's, by the "
        "SHA-256 of its bytes.",
        adversary="whoever operates the SuperLink, or reaches its control interface",
        colluding=("coordinator", "network"),
        behaviour="malicious",
        where=(
            "securefl.flower.supernode.OwnAppState.store_fab",
            "securefl.flower.supernode.OwnAppState.create_task",
        ),
        how=("construction", "attack"),
        shown=(
            "tests/securefl/flower/test_supernode.py::test_an_app_with_one_more_line_is_neither_stored_nor_run",
            "tests/securefl/flower/test_supernode.py::test_an_app_that_claims_our_digest_is_not_stored",
            "tests/securefl/flower/test_supernode.py::test_flowers_own_state_runs_any_app",
            "tests/securefl/flower/test_client_app.py::test_another_members_mail_is_refused_without_a_word_of_why",
        ),
        limits="Only of a SuperNode that `securefl supernode` started. Flower's own code is trusted, and "
        "whoever reaches the control interface can stop a run.",
        mutants=("app-from-the-superlink",),
    ),
)
