"""``python -m drse_operator.simulator trace ...``."""

from drse_operator.simulator.cli import simulate

simulate(prog_name="python -m drse_operator.simulator")
