"""Pure billing: events, rating, postings."""
