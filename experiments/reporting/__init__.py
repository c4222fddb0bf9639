"""From the folders of runs to report.html."""
