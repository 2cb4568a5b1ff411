"""The mathematics of secure aggregation: rings, shares, envelopes, the committee's program, the chain of outcomes.

This package knows nothing of studies, hospitals' data, Syft or Flower. Each module opens with the adversary it
assumes, what it promises against that adversary, and the source it follows.
"""
