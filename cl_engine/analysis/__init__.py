"""Scores, comparisons, pictures and pages made from logs; needs no torch."""
