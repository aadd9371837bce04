"""python -m spikewright.report: regenerate RESULTS.md."""

import sys

from spikewright.report.results import main

sys.exit(main())
