"""`python -m trellis`, and the console script."""

from trellis.cli import cli


def main() -> None:
    cli.main(prog_name="trellis")


if __name__ == "__main__":
    main()
