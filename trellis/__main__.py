"""`python -m trellis`, and the console script."""


def main() -> None:
    raise SystemExit("trellis: not built yet")


if __name__ == "__main__":
    main()
