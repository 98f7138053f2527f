"""`python -m priority`."""

from priority.face.cli import main

main()
