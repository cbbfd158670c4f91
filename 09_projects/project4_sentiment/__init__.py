"""A classifier of reviews in English and Korean, from data to a page that shows which words decided."""
