"""Budgets in the routing table."""

from common.clock import VirtualClock
from common.resources import Budget, Metadata
from common.resources.budgets import BudgetSpec
from common.store.memory import MemoryStore
from inference.routed_budgets import budgets_and_books


async def test_a_budget_that_cannot_be_read_keeps_no_table_from_gateways() -> None:
    """Else keys that are revoked later would go on working."""
    store = MemoryStore(VirtualClock())
    content = {"scope": {"tenant": "acme"}, "limit": {"tokens": 100}, "period": "day"}
    for name, odd in (("a-odd", {"time_zone": "Nowhere/Atlantis"}), ("cap", {})):
        spec = BudgetSpec.model_validate(content).model_copy(update=odd)
        await store.apply(Budget(metadata=Metadata(name=name), spec=spec))
    budgets, _ = await budgets_and_books(store, priced=False)
    assert [one.name for one in budgets] == ["cap"]
