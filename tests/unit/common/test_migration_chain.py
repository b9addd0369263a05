"""Migrations are one chain: two that were made at the same time would leave a database without a newest."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from common.db.migrate import MIGRATIONS


def test_every_migration_follows_the_one_before() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    names = sorted(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    chain = [revision.revision for revision in reversed(list(script.walk_revisions()))]
    assert chain == [f"{number:04}" for number in range(1, len(names) + 1)]
    assert [name.split("_")[0] for name in names] == chain
