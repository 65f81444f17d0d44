"""IAK: kernels for the domains of a frozen recommender."""
