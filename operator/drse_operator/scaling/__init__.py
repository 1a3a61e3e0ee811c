"""Scaling: load and forecast in, wanted replicas and a typed reason out. Pure."""
