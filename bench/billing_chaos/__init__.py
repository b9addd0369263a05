"""Bills while processes are killed: what clients received, beside the events and the ledger."""
