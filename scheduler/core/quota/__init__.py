"""Quotas, borrowing, reclaim and fair shares of queues and cohorts, and the order that follows from them."""
