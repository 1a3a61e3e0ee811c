"""The API of DRSE, group ``drse.dev/v1alpha1``, as pydantic models.

These classes are the single source: ``crds/*.yaml`` is generated from them, the operator parses with
them, and a test proves that they accept exactly what the API server accepts.
"""
