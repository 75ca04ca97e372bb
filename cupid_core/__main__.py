"""`python -m cupid_core` is the `cupid` command."""

import sys

from cupid_core.cli import main

sys.exit(main())
