"""HTTP servers of the processes: listening, and limits of connections."""
