"""Project 3: a chatbot, from dialogues to a page in the browser."""
