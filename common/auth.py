"""Who is asking, and what they may see. Used by control and gateway alike."""

from __future__ import annotations

import hashlib
import hmac

from common.errors import Forbidden
from common.records import record
from common.resources.people import Role

_ENGINE_PURPOSE = b"computility engine key"


def engine_key(internal_token: str) -> str:
    """The secret without which engines of this instance answer nobody; empty where there is no token.

    Gateway, control and agents derive or are handed it; it is in no resource, log or command line.
    """
    if not internal_token:
        return ""
    return hmac.new(internal_token.encode(), _ENGINE_PURPOSE, hashlib.sha256).hexdigest()


def engine_headers(internal_token: str) -> dict[str, str]:
    """What a request to an engine carries."""
    key = engine_key(internal_token)
    return {"Authorization": f"Bearer {key}"} if key else {}


def shows_token(authorization: bytes, token: str) -> bool:
    """Whether a request's ``Authorization`` header holds this token; never where there is none."""
    scheme, _, shown = authorization.partition(b" ")
    return bool(token) and scheme.lower() == b"bearer" and hmac.compare_digest(shown.strip(), token.encode())


@record(frozen=True)
class Principal:
    """The holder of an API key. ``tenant`` and ``project`` are None where the role is not bound to one."""

    key: str
    role: Role
    tenant: str | None = None
    project: str | None = None
    models: tuple[str, ...] = ()

    @property
    def is_platform_admin(self) -> bool:
        return self.role == "platform-admin"

    def sees_project(self, project: str, tenant: str) -> bool:
        """Whether things of ``project`` (which belongs to ``tenant``) exist for this principal."""
        if self.is_platform_admin:
            return True
        if self.role == "tenant-admin":
            return tenant == self.tenant
        return project == self.project

    def may_use_model(self, served_name: str) -> bool:
        """Whether the key's model list allows it (an empty list allows all that is visible)."""
        return not self.models or served_name in self.models

    def require(self, *roles: Role) -> None:
        """Raise ``Forbidden`` unless the principal has one of the roles. Platform admins always pass."""
        if not self.is_platform_admin and self.role not in roles:
            needed = " or ".join(roles) or "platform-admin"
            raise Forbidden(f"this needs the role {needed}; the key {self.key} has {self.role}")
