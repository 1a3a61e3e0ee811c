"""``python -m drse_operator.controller``: the same as ``drse-operator``."""

from drse_operator.controller.main import main

main()
