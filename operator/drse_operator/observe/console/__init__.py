"""The administrator's console: a read-only web server of its own, beside the operator and never in its loop.

Informers keep a picture of the cluster (``watch``); at most once a second, and only when something changed,
an immutable ``look`` is made of it, and every page is a view of the latest one. What a page shows is worked
out by ``observe.views``, the read model that the command line uses too; this package asks who is looking
(``access``), turns rows into tables, charts, JSON and CSV under one URL (``web``, ``tables``, ``charts``,
``pages``), and tells browsers which parts have changed (``events``).
"""
