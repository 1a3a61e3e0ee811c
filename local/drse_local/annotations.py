"""Annotations by which a pod template steers its simulated life (read by `stages/pod.yaml`)."""

from __future__ import annotations

START_SECONDS = "local.drse.dev/start-seconds"
"""Seconds from bound to Running and Ready; 1 when absent."""

RUN_SECONDS = "local.drse.dev/run-seconds"
"""Seconds from Ready to Succeeded; without it the pod runs until it is deleted."""

FAIL_AFTER_SECONDS = "local.drse.dev/fail-after-seconds"
"""Seconds from Ready to Failed with exit status 1; wins over RUN_SECONDS."""
