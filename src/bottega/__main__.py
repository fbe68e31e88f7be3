"""`python -m bottega`: the same as the `bottega` command."""

from bottega.cli import main

if __name__ == "__main__":
    main()
