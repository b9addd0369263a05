"""Guardrails: what may not go into models, or come out of them, and what is done about it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from common.resources.fields import AdapterName, Name
from common.resources.meta import Model, Resource, Status
from common.vocabulary import TEXT_PATTERN

MAX_GUARDS = 16
MAX_TERMS = 5000
MAX_TERMS_BYTES = 64 * 1024
"""Of all terms of a guard together."""
Term = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=f"^{TEXT_PATTERN}$")]
Country = Annotated[str, StringConstraints(max_length=2, pattern="^[A-Z]{2}$")]
Found = Literal["email", "card", "phone", "identity", "iban"]


class GuardrailScope(Model):
    """Whose requests are looked at: those that fit all that is given. Without a tenant, everybody's."""

    tenant: Name | None = Field(None, description="who pays; only a platform-admin leaves it out")
    project: Name | None = None
    key: Name | None = Field(None, description="name of an API key")
    model: AdapterName | None = Field(None, description="what requests name as their model")


class Guard(Model):
    """One thing to look for. ``terms`` is of the kind terms, ``find`` and ``countries`` are of personal."""

    kind: Literal["terms", "personal", "secrets", "injection"]
    action: Literal["flag", "mask", "block"] = Field(
        description="flag: it is only told; mask: a mask takes its place; block: nothing goes on"
    )
    direction: Literal["input", "output", "both"] = Field(
        "both", description="input: what models are sent, results of tools too; output: what they write"
    )
    name: Name | None = Field(None, description="what people are told; unset = the kind")
    terms: Annotated[list[Term], Field(max_length=MAX_TERMS)] = Field(
        default_factory=list, description="case, accents and look-alikes make no difference"
    )
    whole_words: bool = Field(True, description="not within longer words")
    find: Annotated[list[Found], Field(max_length=5)] = Field(
        default_factory=list, description="empty = all of them"
    )
    countries: Annotated[list[Country], Field(max_length=32)] = Field(
        default_factory=list,
        description="whose numbers of identity, and telephone numbers as written there, are found",
    )

    @model_validator(mode="after")
    def _says_what_it_does(self) -> Guard:
        if (self.kind == "terms") != bool(self.terms):
            raise ValueError("terms are for the kind terms, which needs some")
        if self.kind != "personal" and (self.find or self.countries):
            raise ValueError("find and countries are for the kind personal")
        if sum(len(term.encode("utf-8", "surrogatepass")) for term in self.terms) > MAX_TERMS_BYTES:
            raise ValueError(f"terms may have at most {MAX_TERMS_BYTES} bytes together")
        return self


class GuardrailSpec(Model):
    """Guards that bind the same requests. Those of several Guardrails add up; the most severe action wins."""

    scope: GuardrailScope = Field(default_factory=GuardrailScope)
    guards: Annotated[list[Guard], Field(min_length=1, max_length=MAX_GUARDS)]
    mandatory: bool = Field(False, description="set by platform-admins: nobody else changes or deletes it")


class Guardrail(Resource):
    PLURAL: ClassVar[str] = "guardrails"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Guardrail"] = "Guardrail"
    spec: GuardrailSpec
    status: Status = Field(default_factory=Status)
