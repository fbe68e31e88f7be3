"""The `bottega` command."""


def main() -> None:
    """Entry point."""
