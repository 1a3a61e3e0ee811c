"""The demo: the examples on an embedded cluster, under a load that is about to rise.

`session` starts everything and ties the rest together. `watching` follows the API server, `ledger` draws from
it who holds what and who decided what, `load` asks Prometheus and the forecaster, `verdict` judges, and
`view` with `chart` show it. Nothing here looks into the operator: what the demo claims, anybody with kubectl
and Prometheus can check.
"""
