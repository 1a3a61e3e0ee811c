"""``python -m drse_operator.observe.console``."""

from drse_operator.observe.console.main import main

main()
