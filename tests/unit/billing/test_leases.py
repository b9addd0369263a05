"""Leases of budgets: whatever is lost, late, repeated or killed, no budget is spent beyond what ran out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from billing.core.leases import GRACE_SECONDS, LEASE_SECONDS, Account, Ask, Lease, renewed

LIMIT = 150


@dataclass
class Holder:
    """A gateway process: its account, the requests that run (held, what each will use), what it has used and
    not posted, and its reports."""

    account: Account = field(default_factory=Account)
    running: list[tuple[int, int]] = field(default_factory=list)
    spool: list[tuple[float, int]] = field(default_factory=list)
    sequence: int = 0
    asked_at: dict[int, float] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    is_dead: bool = False


@dataclass
class World:
    """Control and its gateways, on one clock."""

    chance: random.Random
    now: float = 1_000.0
    spent: int = 0
    ran_out: int = 0
    """What leases had open when they were over."""
    holders: dict[int, Holder] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    post: list[tuple[int, Ask]] = field(default_factory=list)
    """Reports on their way; some come twice, some never, none in order."""
    refused: int = 0

    def open_of_others(self, name: int) -> int:
        return sum(lease.open for other, lease in self.leases.items() if other != name and self.lasts(lease))

    def lasts(self, lease: Lease) -> bool:
        return lease.expires_ms > self.now * 1000

    def owed(self) -> int:
        """What may still be posted, or lent to requests, by anybody."""
        return sum(
            holder.account.room(self.now) * (not holder.is_dead)
            + sum(held for held, _ in holder.running)
            + sum(used for _, used in holder.spool)
            for holder in self.holders.values()
        )

    def step(self) -> None:
        name = self.chance.randrange(4)
        holder = self.holders.setdefault(name, Holder())
        if holder.is_dead:
            self.ship(holder)
            return
        actions = (self.begin, self.begin, self.end, self.end, self.ship, self.report, self.rest)
        self.chance.choice(actions)(holder)
        self.deliver()
        if self.chance.random() < 0.01:
            self.kill(name)

    def begin(self, holder: Holder) -> None:
        amount = self.chance.randrange(1, 40)
        if holder.account.hold(amount, self.now):
            holder.running.append((amount, self.chance.randrange(amount + 1)))
        else:
            self.refused += 1

    def end(self, holder: Holder) -> None:
        if holder.running:
            held, used = holder.running.pop(self.chance.randrange(len(holder.running)))
            holder.spool.append((self.now, used))
            holder.account.settle(held, used, self.now)

    def ship(self, holder: Holder) -> None:
        began = self.now
        self.go_by(0.01)
        self.spent += sum(used for _, used in holder.spool)
        holder.spool.clear()
        holder.account.posted(began)

    def report(self, holder: Holder) -> None:
        name = next(name for name, one in self.holders.items() if one is holder)
        holder.sequence += 1
        firm, room = holder.account.to_report(self.now, self.chance.random() < 0.8)
        needed = self.chance.choice((0, 0, 30))
        least = self.chance.choice((0, needed, needed // 3))
        self.post.append((name, Ask(holder.sequence, firm, room, needed, least=least)))
        holder.asked_at[holder.sequence] = self.now

    def deliver(self) -> None:
        if not self.post or self.chance.random() < 0.3:
            return
        name, ask = self.chance.choice(self.post)
        if self.chance.random() < 0.8:
            self.post.remove((name, ask))
        old = self.leases.get(name)
        lease = renewed(old, ask, LIMIT, self.spent, self.open_of_others(name), round(self.now * 1000))
        self.leases[name] = lease
        holder = self.holders[name]
        # A holder waits for one answer at a time, and forgets what it has given up.
        is_awaited = ask.sequence == holder.sequence and ask.sequence not in holder.answered
        if is_awaited and not holder.is_dead and self.chance.random() < 0.8:
            holder.answered.add(ask.sequence)
            holder.account.changed(lease.change, holder.asked_at[ask.sequence])

    def kill(self, name: int) -> None:
        holder = self.holders[name]
        holder.is_dead = True
        holder.spool += [(self.now, self.chance.randrange(used + 1)) for _, used in holder.running]
        holder.running.clear()

    def rest(self, holder: Holder) -> None:
        seconds = (0.1, 1.0, 20.0, LEASE_SECONDS, LEASE_SECONDS + GRACE_SECONDS)
        self.go_by(self.chance.choice(seconds))

    def go_by(self, seconds: float) -> None:
        """Time goes by; leases that nobody renews are over."""
        before = {name for name, lease in self.leases.items() if self.lasts(lease)}
        self.now += seconds
        self.ran_out += sum(self.leases[name].open for name in before if not self.lasts(self.leases[name]))


@given(st.integers(0, 2**32))
def test_spent_and_owed_are_never_more_than_the_limit_and_what_ran_out(seed: int) -> None:
    world = World(random.Random(seed))
    for _ in range(300):
        world.step()
        assert world.spent + world.owed() <= LIMIT + world.ran_out
    for holder in world.holders.values():
        while holder.running:
            world.end(holder)
        world.ship(holder)
        assert holder.is_dead or (holder.account.held == 0 and holder.account.overage == 0)
    assert world.spent <= LIMIT + world.ran_out


@given(st.integers(0, 2**32))
def test_without_an_end_of_leases_a_budget_is_never_overshot(seed: int) -> None:
    world = World(random.Random(seed))
    world.rest = lambda holder: world.go_by(0.1)  # type: ignore[method-assign]
    for _ in range(300):
        world.step()
        assert world.spent + world.owed() <= LIMIT
    assert world.ran_out == 0


@given(
    st.lists(st.builds(Ask, st.integers(1, 9), st.integers(0, 900), st.integers(0, 900)), min_size=1),
    st.randoms(use_true_random=False),
)
def test_reports_in_any_order_and_any_number_end_where_the_youngest_says(
    asks: list[Ask], chance: random.Random
) -> None:
    by_sequence = {ask.sequence: ask for ask in asks}
    youngest = by_sequence[max(by_sequence)]
    sent = [*by_sequence.values(), *(chance.choice(list(by_sequence.values())) for _ in range(5))]
    chance.shuffle(sent)
    lease: Lease | None = None
    for ask in sent:
        lease = renewed(lease, ask, LIMIT, 100, 0, 0)
    alone = renewed(None, youngest, LIMIT, 100, 0, 0)
    assert lease is not None
    assert (lease.open, lease.sequence, lease.expires_ms) == (alone.open, alone.sequence, alone.expires_ms)


def test_a_report_that_comes_twice_gets_the_same_answer_and_an_older_one_changes_nothing() -> None:
    first = renewed(None, Ask(2, 0, 0, needed=50), 1_000, 0, 0, 0)
    assert first.change == 60
    assert renewed(first, Ask(2, 0, 0, needed=50), 1_000, 0, 0, 9) == first
    late = renewed(first, Ask(1, 0, 0, needed=500), 1_000, 0, 0, 9)
    assert (late.open, late.sequence, late.change) == (60, 2, 0)


def test_room_is_cut_where_the_limit_is_lower_and_counts_until_that_is_heard() -> None:
    first = renewed(None, Ask(1, 0, 0, needed=100), 1_000, 0, 0, 0)
    assert (first.open, first.change) == (110, 110)
    cut = renewed(first, Ask(2, 40, 70), 50, 0, 0, 0)
    assert (cut.open, cut.change) == (110, -65)
    heard = renewed(cut, Ask(3, 40, 5), 50, 0, 0, 0)
    assert (heard.open, heard.change) == (45, 0)


def test_room_that_was_not_taken_is_not_kept_from_others() -> None:
    """One process had a request that held nearly all and took little, and has small ones all the time."""
    first, second = renewed(None, Ask(1, 0, 0, needed=900), 1000, 0, 0, 0), None
    room = first.change - 10
    for sequence in range(2, 6):
        first = renewed(first, Ask(sequence, 0, room), 1000, 10, second.open if second else 0, 0)
        room += first.change
        second = renewed(second, Ask(sequence, 0, 0, needed=300), 1000, 10, first.open, 0)
    assert second is not None
    assert second.change >= 300
    assert room >= 300, "nor is all taken from it"
    assert 10 + first.open + second.open <= 1000


def test_the_last_room_comes_together_where_each_has_too_little_of_it() -> None:
    """Two processes with 10 each, in both of which requests for 20 wait all the time."""
    leases = [renewed(None, Ask(1, 0, 0, needed=10), 20, 0, 0, 0) for _ in range(2)]
    rooms = [10, 10]
    for sequence in range(2, 5):
        for one in range(2):
            ask = Ask(sequence, 0, rooms[one], needed=60, least=20)
            leases[one] = renewed(leases[one], ask, 20, 0, leases[1 - one].open, 0)
            rooms[one] += leases[one].change
            assert sum(rooms) <= 20
        if 20 in rooms:
            break
    assert sorted(rooms) == [0, 20]


def test_what_was_used_stays_firm_until_it_is_posted() -> None:
    account = Account()
    assert not account.hold(1, 0.0)
    account.changed(100, 0.0)
    assert account.hold(60, 1.0)
    assert not account.hold(41, 1.0)
    account.settle(60, 25, 2.0)
    assert (account.firm, account.room(2.0), account.overage) == (25, 75, 0)
    account.posted(2.0)
    assert account.firm == 25
    account.posted(2.1)
    assert account.firm == 0
    assert account.room(LEASE_SECONDS) == 0


def test_use_beyond_the_hold_is_counted_and_taken_from_the_room() -> None:
    account = Account()
    account.changed(100, 0.0)
    assert account.hold(10, 1.0)
    account.settle(10, 130, 2.0)
    assert (account.overage, account.room(2.0), account.firm) == (120, 0, 130)
    account.changed(5, 3.0)
    assert account.room(3.0) == 5
