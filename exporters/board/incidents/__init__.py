"""The incidents of the live board: faults, their places, and the notification of each."""
