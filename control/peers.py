"""This control process as the others know it."""

from __future__ import annotations

import ipaddress
import socket

from common.ids import new_id
from common.leadership.rules import Candidate
from common.settings import ControlSettings

_ELSEWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}
"""Nobody has these addresses; nothing is sent there."""


def candidate_of(control: ControlSettings) -> Candidate:
    """Where it is, a name for this run, and where others reach it. Two that are there at once are never at
    one place: that is the address that was given to this one alone, or else its machine and port."""
    place = control.peer_url or f"{socket.gethostname()}:{control.port}"
    return Candidate(place, new_id("run"), control.peer_url or _reached_at(control))


def _reached_at(control: ControlSettings) -> str:
    """The URL of the server; with this machine's address in the network where it listens at all."""
    if control.host and not _is_wildcard(control.host):
        return control.base_url
    family = socket.AF_INET6 if ":" in control.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE[family])
        except OSError:  # no network: only this machine is there to reach it
            return control.base_url
        host: str = probe.getsockname()[0]
    return control.model_copy(update={"host": host}).base_url


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
