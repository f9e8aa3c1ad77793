"""The incidents of the live board: what is wrong, where, and who is notified."""
