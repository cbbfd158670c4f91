"""Project 1: handwritten digits, from data to a page in the browser."""
