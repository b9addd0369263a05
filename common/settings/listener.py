"""Where a server listens, and what it bears from whoever reaches its port."""

from __future__ import annotations

from pydantic import Field

from common.settings.section import Section


class ListenerSettings(Section):
    """Limits of one HTTP server. They hold before anybody has shown a key."""

    header_limit_bytes: int = Field(
        64 * 1024, ge=1024, le=1024**2, description="of all headers of a request together"
    )
    header_limit_count: int = Field(100, ge=10, le=10_000, description="headers of a request")
    url_limit_bytes: int = Field(16 * 1024, ge=256, le=64 * 1024, description="path and query of a request")
    header_seconds: float = Field(
        15.0,
        gt=0,
        le=3600,
        description="from the first byte of a request, or a connection, to its headers' end",
    )
    body_stall_seconds: float = Field(30.0, gt=0, le=3600, description="without a byte of an expected body")
    body_bytes_per_second: int = Field(
        256, ge=0, le=1024**2, description="least pace of a body that takes longer than body_stall_seconds"
    )
    write_stall_seconds: float = Field(
        60.0, gt=0, le=3600, description="in which a client takes nothing of an answer that waits for it"
    )
    idle_seconds: int = Field(75, gt=0, le=3600, description="a connection is kept for its next request")
    max_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="open at once; never more than the system allows files"
    )
    max_connections_per_address: int = Field(
        1_000, ge=1, le=1_000_000, description="from one address; this machine's own are not counted"
    )
    max_pipelined: int = Field(
        32, ge=0, le=1_000, description="requests of one connection that wait for the one before"
    )
