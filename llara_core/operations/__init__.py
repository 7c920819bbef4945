"""Kept fresh and safe: gate, retraining, live pair, schedules, alerts, retention."""
