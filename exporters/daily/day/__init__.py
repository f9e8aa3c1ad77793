"""One closed day as plain facts, and where it is kept."""
