"""The SQL database: connections, transactions, migrations."""

from common.db.database import Database, Mark
from common.db.types import BIG_INTEGER_KEY, KEY, text_bytes

__all__ = ["BIG_INTEGER_KEY", "KEY", "Database", "Mark", "text_bytes"]
