"""A small Flower app: digits, a small network, federated averaging."""
