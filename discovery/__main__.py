"""`python -m discovery`: see cli."""

from discovery.cli import main

if __name__ == "__main__":
    main()
