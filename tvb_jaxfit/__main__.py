"""``python -m tvb_jaxfit`` is the command ``tvb-jaxfit``."""

import sys

from .command.main import main

if __name__ == "__main__":
    sys.exit(main())
