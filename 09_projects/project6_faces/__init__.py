"""Faces out of noise and wishes, from data to a page with sliders, and a measure of how good they are."""
