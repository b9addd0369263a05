"""Errors of the official client as those of the platform."""

from __future__ import annotations

import json

import openai

from common.error_bodies import error_from_body
from common.errors import ComputilityError, Unavailable


def of_openai(error: openai.OpenAIError) -> ComputilityError:
    """An error of the official client as one of ours."""
    if isinstance(error, openai.APIStatusError):
        return error_from_body(error.status_code, json.dumps({"error": error.body}))
    if isinstance(error, openai.APIConnectionError):
        url = str(error.request.url.copy_with(path="", query=None))
        return Unavailable(f"the gateway is not running at {url}; start it with `computility up`")
    return ComputilityError(str(error))
