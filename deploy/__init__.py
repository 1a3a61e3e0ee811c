"""All that is made from code: CustomResourceDefinitions, alert and recording rules, Grafana boards, the
schema and the table of the chart's values, the reference pages.

``python -m deploy`` writes the files, ``python -m deploy --check`` says which are stale. The files are
committed, so that installing needs none of this.
"""
