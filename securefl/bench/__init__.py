"""Measurements in CPU time, bytes and ratios within one run; ``securefl bench`` prints them."""
