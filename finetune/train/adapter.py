"""Adapters and trainer checkpoints on disk: complete or not there."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel

from common.durable import put_in_place, sync_tree
from finetune.core.job import TrainJob

WEIGHTS_FILE = "adapter_model.safetensors"
LINEAGE_FILE = "lineage.json"
_COMPLETE_MARK = "complete"


def lora_config(job: TrainJob) -> LoraConfig:
    """An adapter that the engine can load: plain LoRA, no bias, no other module saved."""
    return LoraConfig(
        r=job.lora.rank,
        lora_alpha=job.lora.alpha,
        lora_dropout=0.0,
        target_modules=list(job.lora.target_modules),
        bias="none",
        use_dora=False,
        task_type="CAUSAL_LM",
    )


def save_adapter(model: PeftModel, target: Path, base_model: str, lineage: dict[str, Any]) -> str:
    """Write the adapter to ``target`` in one step, replacing an older one. Returns its weights' SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        model.peft_config["default"].base_model_name_or_path = base_model
        model.save_pretrained(str(work), safe_serialization=True)
        (work / "README.md").unlink(missing_ok=True)
        digest = file_digest(work / WEIGHTS_FILE)
        _write_json(work / LINEAGE_FILE, {**lineage, "base_model": base_model, "adapter_sha256": digest})
        for path in work.iterdir():
            path.chmod(0o644)
        work.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        put_in_place(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return digest


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mark_complete(trainer_checkpoint: Path) -> None:
    """Say that every file of a trainer checkpoint is on disk."""
    sync_tree(trainer_checkpoint)
    _write_json(trainer_checkpoint / _COMPLETE_MARK, {})
    sync_tree(trainer_checkpoint)


def last_complete(trainer_dir: Path) -> Path | None:
    """The newest complete trainer checkpoint; torn ones, left by a killed worker, are removed."""
    found: dict[int, Path] = {}
    for path in trainer_dir.glob("checkpoint-*"):
        if (path / _COMPLETE_MARK).exists():
            found[int(path.name.removeprefix("checkpoint-"))] = path
        else:
            shutil.rmtree(path)
    return found[max(found)] if found else None


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
