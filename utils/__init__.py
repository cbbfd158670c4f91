"""Helpers that the lessons share. Import them by module: `from utils.device import pick_device`."""
