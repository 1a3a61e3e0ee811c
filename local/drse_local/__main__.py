"""`python -m drse_local`: the same as the command `drse-local`."""

from drse_local.cli import main

main()
