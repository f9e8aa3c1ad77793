"""The live board itself: its facts put together, its page, and its addresses."""
