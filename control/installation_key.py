"""The platform-admin's key of an installation that makes its secrets itself, such as one by Helm."""

from __future__ import annotations

from common.ids import secret_digest
from common.resources import ApiKey
from common.resources.people import ApiKeySpec
from common.store.authorship import Author, authored
from common.telemetry import get_logger
from control.api.routes.keys import make_key
from control.context import ControlContext

INSTALLATION_KEY = "installation"
_log = get_logger("control")


async def keep_installation_key(context: ControlContext) -> None:
    """The key ``installation`` has the secret in ``control.admin_key``: made where it is missing, made anew
    where the secret has changed, so that the old one opens nothing any more. One that was revoked stays so
    until then. Nothing where no secret is set. Raises ``ComputilityError`` where the store does not take
    it."""
    secret = context.settings.control.admin_key
    if not secret:
        return
    async with context.write_lock:
        old = await context.store.find(ApiKey, INSTALLATION_KEY)
        if old is not None and old.status.digest == secret_digest(secret):
            if old.spec.revoked:
                _log.warning("the installation's key is revoked; set another one as control.admin_key")
            return
        spec = ApiKeySpec(role="platform-admin")
        with authored(Author("installation", "control")):
            await make_key(context, INSTALLATION_KEY, spec, replace=True, secret=secret)
    _log.info("the installation's key is in force", replaced=old is not None)
