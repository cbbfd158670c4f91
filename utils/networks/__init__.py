"""Finished networks that both a lesson and a project use."""
