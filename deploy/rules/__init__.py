"""Alert and recording rules for Prometheus: one list, from which come the file for a plain Prometheus and
what the chart makes its PrometheusRule of."""
