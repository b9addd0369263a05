"""Usage, prices and the ledger. Money is integer micro-credits, tokens are integers."""
