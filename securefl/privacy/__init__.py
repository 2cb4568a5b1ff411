"""What a study tells about one patient: the mechanism, its accounting, and a hospital's ledger over all its studies."""

from securefl.privacy.accounting import Epsilon, epsilon_table, multiplier_for, spent
from securefl.privacy.assumptions import describe
from securefl.privacy.budget import Budget, Budgets, read_budgets
from securefl.privacy.charge import Charge, LedgerError, Occasion, charge_name
from securefl.privacy.ledger import PrivacyLedger, dataset_name
from securefl.privacy.mechanism import Mechanism, PrivacyError

__all__ = [
    "Budget",
    "Budgets",
    "Charge",
    "Epsilon",
    "LedgerError",
    "Mechanism",
    "Occasion",
    "PrivacyError",
    "PrivacyLedger",
    "charge_name",
    "dataset_name",
    "describe",
    "epsilon_table",
    "multiplier_for",
    "read_budgets",
    "spent",
]
