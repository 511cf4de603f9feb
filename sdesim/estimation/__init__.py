"""Expected values to a stated accuracy: Monte Carlo, multilevel Monte Carlo, randomised quasi-Monte Carlo."""
