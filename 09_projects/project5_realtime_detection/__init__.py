"""Project 5: finding things in pictures, fast enough for a camera, from data to a page in the browser."""
