"""Forecasting as a whole pipeline: series, walking forward, rules and networks, intervals, and a report that judges them."""
