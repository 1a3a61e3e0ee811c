"""The seven Grafana boards: each title is a question, and its panels answer it."""
