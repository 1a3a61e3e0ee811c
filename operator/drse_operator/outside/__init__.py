"""Asking the world outside of the API server: the forecaster and Prometheus.

Operator, console and command line ask in one way. Every question has a time limit, and every failure is one
sentence that says what is wrong and what to change.
"""
