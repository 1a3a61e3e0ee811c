"""The terminal dashboard: ``look`` is what it shows, ``pages`` how, ``app`` the screen and its keys.

Only ``drse dash`` imports this package: textual, which it needs, is an extra.
"""
