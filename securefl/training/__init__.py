"""What one hospital does in a round, and what is done with the opened sum."""
