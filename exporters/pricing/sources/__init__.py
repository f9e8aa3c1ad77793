"""Published price data, converted to rows of price lists. Pure."""
