"""Vectors to results: index, BM25 and hard-negative mining."""
