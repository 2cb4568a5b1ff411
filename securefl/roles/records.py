"""Under which names the record of a run lies: in the coordinator's folder, and as a party's own copy."""

CLOSING, RECEIPT = "closing", "receipt-"


def receipt_name(round_: int) -> str:
    """Where a round's signed outcome is kept."""
    return f"{RECEIPT}{round_:06d}"


def sum_name(round_: int) -> str:
    """Where a round's opened sum is kept."""
    return f"sum-{round_:06d}"


def verification_name(round_: int) -> str:
    """Where the record of the hospitals' check of a round's sum is kept."""
    return f"verification-{round_:06d}"
