"""A recommender of films, from ratings to a page that says what to watch and why."""
