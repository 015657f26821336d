"""Figures that a reader can work in: their numbers, and Vega-Lite specifications of how they are drawn."""
