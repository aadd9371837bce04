"""python -m spikewright: the command line."""

import sys

from spikewright.cli import main

sys.exit(main())
