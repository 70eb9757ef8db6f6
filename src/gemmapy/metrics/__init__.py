"""What a dashboard shows: formulas over additive sums. Pure."""
