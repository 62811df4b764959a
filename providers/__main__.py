"""`python -m providers REF`: run a provider by hand, or as a host's child (see providers.runner)."""

import sys

from providers.runner import main

if __name__ == "__main__":
    sys.exit(main())
