"""All boards, in the order in which an administrator asks."""

from __future__ import annotations

from deploy.boards.cluster import CLUSTER
from deploy.boards.forecast import FORECAST
from deploy.boards.health import HEALTH
from deploy.boards.hours import HOURS
from deploy.boards.job import JOB
from deploy.boards.model import Board
from deploy.boards.sharing import SHARING
from deploy.boards.waiting import WAITING

BOARDS: tuple[Board, ...] = (CLUSTER, SHARING, WAITING, JOB, FORECAST, HOURS, HEALTH)
