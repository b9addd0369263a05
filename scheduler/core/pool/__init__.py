"""The pool: nodes with what is on them, indexed by state, filtered and scored for a request."""
