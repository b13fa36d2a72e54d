"""Reports for people: tables, plots, contact sheets, the comparison with published evidence, and generated files."""
