"""Admission: ``plan(snapshot, now)`` decides who gets which GPUs, and says why everybody else waits.

Pure. A snapshot is plain frozen data, so the live operator, the simulator and the what-if command run the
very same code; nothing here knows Kubernetes, a clock or randomness.
"""
