"""Files, seeds, intervals, processes, plots."""
