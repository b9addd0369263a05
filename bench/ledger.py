"""How fast the ledger takes usage, and how long a month's report takes over millions of events.

``python -m bench.ledger --json`` posts events of many tenants, projects, keys and models over the days of a
month, in batches, as control does with what gateways send it: each is read from its JSON, checked, rated and
posted by ``Ledger.post``, on an SQLite file (``synchronous=FULL``) and on a PostgreSQL of its own. The report
asks for a month by tenant, project, model and day. ``--millions 1,3,10`` grows the ledger and asks again;
``added_p99_ms`` is the time that metering adds to a request in a gateway: its event is made and spooled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from billing.core.events import UsageEvent
from billing.reports import usage_report
from billing.store import Ledger, UsageFilter
from common.clock import SYSTEM_CLOCK, parse_rfc3339
from common.db import Database
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from common.store.sql import SqlStore
from tests.fixtures.postgres import PostgresServer, serving_postgres
