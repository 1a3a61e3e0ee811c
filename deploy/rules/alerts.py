"""All alerts, in the order of the runbooks: is DRSE itself well, is sharing fair, are GPUs used, do
services keep up. Each has a page in docs/runbooks and a test both ways."""

from __future__ import annotations

from deploy.rules.health import HEALTH
from deploy.rules.model import Alert
from deploy.rules.scaling import SCALING
from deploy.rules.sharing import SHARING
from deploy.rules.usage import USAGE

ALERTS: tuple[Alert, ...] = (*HEALTH, *SHARING, *USAGE, *SCALING)
