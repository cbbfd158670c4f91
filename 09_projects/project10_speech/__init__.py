"""Project 10: speech, from the sound wave to digits, digit strings and a page that listens."""
