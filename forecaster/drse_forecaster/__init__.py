"""Forecasts of DeepSeekJobs' GPU load: docs/forecasting.md.

All matrices here are small. On them BLAS threads win little, and where cores are shared they wait for each
other: a thousand fits took five times as long with two threads as with one. It must be set before numpy is
loaded, and whoever sets it otherwise keeps their value.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
