"""The whole stack on this machine, without installed servers."""
