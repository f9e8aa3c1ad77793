"""The commercial side of a day: growth of tokens, contracts up for renewal, margin of the cache."""
