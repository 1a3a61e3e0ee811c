"""``drse``, also known as ``kubectl drse``: parses, loads with the caller's rights, asks a view, prints.

Nothing is worked out here. Whatever costs time to import is imported by the command that needs it, so that
``--help`` and completion answer at once.
"""
