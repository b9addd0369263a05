"""The store in SQL."""

from common.store.sql.store import SqlStore

__all__ = ["SqlStore"]
