"""python -m ntkfast"""

from ntkfast.cli import main

main(prog_name="ntkfast")
