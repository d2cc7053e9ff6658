"""`python -m symphony_fl.cli`: the `symphony` command."""

import sys

from symphony_fl.cli.main import main

sys.exit(main())
