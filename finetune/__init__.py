"""LoRA fine-tuning: the job API's core, the training worker, and a tiny base model to try it on."""
