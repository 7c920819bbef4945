"""Results to judgement: metrics, significance, systems side by side, report."""
