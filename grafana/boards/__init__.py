"""One module a board; each has `board(limits)`."""
