"""`python -m multilayer` is the `multilayer` command."""

from multilayer.cli.main import command

command()
