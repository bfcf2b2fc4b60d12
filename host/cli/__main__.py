"""``python -m transept.host.cli``."""

from transept.host.cli import main

if __name__ == "__main__":
    main()
