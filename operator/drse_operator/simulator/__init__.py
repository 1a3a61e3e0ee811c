"""Replays traces of jobs through the admission engine, and through the policies of other systems."""
