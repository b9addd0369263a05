"""What the client of the control API asks of files, fine-tuning jobs and batches, in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

import httpx

from common.client_transport import Document, Transport
from common.ids import new_id

PAGE = 100
MAX_ITEMS = 10_000
_FILES, _JOBS, _BATCHES = "/v1/files", "/v1/fine_tuning/jobs", "/v1/batches"


class TuningClient(Transport):
    """Files, jobs and batches. ``project`` is that of the key where it is None."""

    def upload_file(
        self,
        name: str,
        content: IO[bytes],
        purpose: str,
        project: str | None = None,
        expires_seconds: int | None = None,
    ) -> Document:
        """The file that was made of ``content``, which can be read again from its beginning; it goes by
        itself after ``expires_seconds`` (None = never)."""
        headers = {**_of(project), "Idempotency-Key": new_id("idem")}
        data = {"purpose": purpose}
        if expires_seconds is not None:
            data |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_seconds)}
        form: dict[str, Any] = {"data": data, "files": {"file": (name, content)}}
        return self._answer(self._send("POST", _FILES, headers=headers, **form))

    def list_files(self, project: str | None = None) -> list[Document]:
        """The files of a project, newest first."""
        return list(self._pages(_FILES, project))

    def file_content(self, file: str, project: str | None = None) -> Iterator[bytes]:
        """What a file holds, in pieces."""
        path = f"{_FILES}/{file}/content"
        try:
            with self._http.stream("GET", path, headers=_of(project)) as response:
                if response.is_error:
                    response.read()
                    self._answer(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def delete_file(self, file: str, project: str | None = None) -> Document:
        """Delete a file; ``Conflict`` where a job needs it."""
        return self._answer(self._send("DELETE", f"{_FILES}/{file}", headers=_of(project)))

    def create_job(self, body: Mapping[str, Any], project: str | None = None) -> Document:
        """Make a fine-tuning job."""
        headers = {**_of(project), "Idempotency-Key": new_id("idem")}
        return self._answer(self._send("POST", _JOBS, headers=headers, json=dict(body)))

    def list_jobs(self, project: str | None = None) -> list[Document]:
        """The jobs of a project, newest first."""
        return list(self._pages(_JOBS, project))

    def cancel_job(self, job: str, project: str | None = None) -> Document:
        """End a job."""
        return self._answer(self._send("POST", f"{_JOBS}/{job}/cancel", headers=_of(project)))

    def serve_checkpoint(self, job: str, checkpoint: str, project: str | None = None) -> Document:
        """Serve the adapter as it was after a step, named by its number or by the checkpoint's id."""
        path = f"{_JOBS}/{job}/checkpoints/{checkpoint}/serve"
        return self._answer(self._send("POST", path, headers=_of(project)))

    def create_batch(self, body: Mapping[str, Any], project: str | None = None) -> Document:
        """Make a batch of a file with requests."""
        headers = {**_of(project), "Idempotency-Key": new_id("idem")}
        return self._answer(self._send("POST", _BATCHES, headers=headers, json=dict(body)))

    def list_batches(self, project: str | None = None) -> list[Document]:
        """The batches of a project, newest first."""
        return list(self._pages(_BATCHES, project))

    def get_batch(self, batch: str, project: str | None = None) -> Document:
        """One batch."""
        return self._answer(self._send("GET", f"{_BATCHES}/{batch}", headers=_of(project)))

    def cancel_batch(self, batch: str, project: str | None = None) -> Document:
        """End a batch."""
        return self._answer(self._send("POST", f"{_BATCHES}/{batch}/cancel", headers=_of(project)))

    def _pages(self, path: str, project: str | None) -> Iterator[Document]:
        after: dict[str, str] = {}
        for _ in range(MAX_ITEMS // PAGE):
            params = {"limit": str(PAGE), **after}
            answer = self._answer(self._send("GET", path, params=params, headers=_of(project)))
            yield from answer["data"]
            if not answer.get("has_more") or not answer["data"]:
                return
            after = {"after": answer["data"][-1]["id"]}


def _of(project: str | None) -> dict[str, str]:
    return {"OpenAI-Project": project} if project else {}
