"""The kinds of Redis: one server, one behind sentinels, a cluster; and whether they are set up."""
