"""The read model: what people ask of DRSE, as pure functions from one look at the cluster to frozen rows.

The command line prints these rows and a web page shows them; neither works anything out by itself. Every
figure is either read from the API server's objects or comes from the planner that the operator runs, on the
same snapshot, so the views cannot disagree with what the operator does next.
"""
