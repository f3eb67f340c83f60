"""Start of the command ``mergesearch``, and of ``python -m experiments`` from a bare clone."""

import sys

from experiments.package_guard import shadowed_room


def main() -> None:
    """Run the command line, or end with exit code 2 where another package hides one of ours."""
    shadowed = shadowed_room()
    if shadowed is not None:
        sys.stderr.write(f"error: {shadowed}\n")
        raise SystemExit(2)
    from experiments.cli import main as run

    run()


if __name__ == "__main__":
    main()
