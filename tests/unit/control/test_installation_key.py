"""The key of an installation that makes its secrets itself: always the one that settings say."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import InvalidInput
from common.ids import secret_digest
from common.resources import ApiKey, Metadata
from common.resources.people import ApiKeySpec, ApiKeyStatus
from common.settings import ControlSettings, Settings, load_settings
from common.store.memory import MemoryStore
from control.context import ControlContext
from control.installation_key import INSTALLATION_KEY, keep_installation_key

ONE, TWO = "a" * 43, "b" * 43


def context_with(store: MemoryStore, home: Path, key: str) -> ControlContext:
    settings = Settings(home=home, control=ControlSettings(admin_key=key))
    return ControlContext(store=store, ledger=None, settings=settings, clock=VirtualClock(), fabric=None)  # type: ignore[arg-type]


async def kept(store: MemoryStore) -> ApiKey:
    return await store.get(ApiKey, INSTALLATION_KEY)


async def test_it_is_made_once_and_opens_as_platform_admin(tmp_path: Path) -> None:
    store = MemoryStore(VirtualClock())
    await keep_installation_key(context_with(store, tmp_path, ONE))
    made = await kept(store)
    assert (made.spec.role, made.status.digest) == ("platform-admin", secret_digest(ONE))
    await keep_installation_key(context_with(store, tmp_path, ONE))
    assert (await kept(store)).metadata.resource_version == made.metadata.resource_version


async def test_another_secret_takes_its_place(tmp_path: Path) -> None:
    store = MemoryStore(VirtualClock())
    await keep_installation_key(context_with(store, tmp_path, ONE))
    await keep_installation_key(context_with(store, tmp_path, TWO))
    assert [key.status.digest for key in await store.list(ApiKey)] == [secret_digest(TWO)]


async def test_one_that_was_revoked_comes_back_with_another_secret_alone(tmp_path: Path) -> None:
    store = MemoryStore(VirtualClock())
    await keep_installation_key(context_with(store, tmp_path, ONE))
    revoked = await kept(store)
    revoked.spec.revoked = True
    await store.apply(revoked)
    await keep_installation_key(context_with(store, tmp_path, ONE))
    assert (await kept(store)).spec.revoked
    await keep_installation_key(context_with(store, tmp_path, TWO))
    assert not (await kept(store)).spec.revoked


async def test_whoever_had_the_name_before_loses_it(tmp_path: Path) -> None:
    store = MemoryStore(VirtualClock())
    spec = ApiKeySpec(role="tenant-admin", tenant="acme")
    status = ApiKeyStatus(digest=secret_digest("theirs"), hint="theirs")
    await store.apply(ApiKey(metadata=Metadata(name=INSTALLATION_KEY), spec=spec, status=status))
    await keep_installation_key(context_with(store, tmp_path, ONE))
    now = await kept(store)
    assert (now.spec.role, now.spec.tenant, now.status.digest) == ("platform-admin", None, secret_digest(ONE))


async def test_without_a_secret_there_is_no_such_key(tmp_path: Path) -> None:
    store = MemoryStore(VirtualClock())
    await keep_installation_key(context_with(store, tmp_path, ""))
    assert await store.list(ApiKey) == []


@given(st.text(max_size=40))
def test_a_secret_that_can_be_guessed_or_sent_in_no_header_is_refused(secret: str) -> None:
    fits = len(secret) >= 32 and all(char.isascii() and (char.isalnum() or char in "_-") for char in secret)
    if fits or not secret:
        assert load_settings(control={"admin_key": secret}).control.admin_key == secret
    else:
        with pytest.raises(InvalidInput, match=r"control\.admin_key"):
            load_settings(control={"admin_key": secret})
