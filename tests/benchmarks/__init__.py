"""Benchmarks: this host against the practical limit (R) and against what people write by hand (F), in one run."""
