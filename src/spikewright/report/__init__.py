"""What a run or several look like: tables for the terminal, figures (`report.figures`, which loads matplotlib),
RESULTS.md."""

from spikewright.report.results import generate_results_md, recorded, write_result
from spikewright.report.tables import closing_table, comparison_table, experiment_table, forecast_table, listing_table

__all__ = [
    "closing_table",
    "comparison_table",
    "experiment_table",
    "forecast_table",
    "generate_results_md",
    "listing_table",
    "recorded",
    "write_result",
]
