"""The Kubernetes side: a thin asynchronous client, informers, the caches that build a snapshot, writes.

Nothing here decides anything about jobs.
"""
