"""Controls: a naive protocol that is given the protection which it lacks does not break, so it was that which broke."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from securefl.audit.mutants import MUTANTS, answers, channels, crashes, people, privacy, superlinks
from securefl.domain.mail import Mail
from securefl.training.sampling import poisson_sample


def drawn_by_the_system(patch):
    patch(privacy.Seeded, "__call__", lambda _seeded, units, rate: poisson_sample(units, rate))


def looked_at_again(patch):
    patch(people.CheckedOnArrival, "_from_inbox", Mail._from_inbox)


def under_a_umask(patch):
    patch(superlinks, "_umask_as_it_is", nullcontext)


def with_a_deadline(patch):
    patch(channels, "WITHOUT_END", channels.DEADLINE)


def kept_before_it_is_sent(patch):
    patch(crashes.SendsFirst, "handle", lambda naive, event: naive._machine.handle(event))


def masked(patch):
    patch(answers.Unmasked, "_bare", lambda _naive, effect: effect)


MENDED = {
    "draws-from-the-seed": drawn_by_the_system,
    "checked-on-arrival": looked_at_again,
    "socket-for-everybody": under_a_umask,
    "wait-without-end": with_a_deadline,
    "sent-before-kept": kept_before_it_is_sent,
    "answers-without-masks": masked,
}


@pytest.mark.parametrize("name", MENDED)
def test_a_naive_protocol_with_the_protection_does_not_break(monkeypatch, name):
    MENDED[name](monkeypatch.setattr)
    finding = MUTANTS[name].breaks()
    assert not finding.holds, finding.sentence
