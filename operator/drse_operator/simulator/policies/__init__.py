"""Admission policies to compare: ours, and what other systems do."""
