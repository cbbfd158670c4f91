"""Project 2: small pictures of ten kinds, from data to a page in the browser."""
