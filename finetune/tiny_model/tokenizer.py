"""The tiny model's tokenizer: byte-level BPE learned from the project's own text, and its chat template."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from finetune.tiny_model.text import Corpus, tokenizer_text

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"

# What the generation marks enclose is what an assistant-only loss trains: the answer and its end of turn.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|assistant|>\\n' }}"
    "{%- generation %}{{- (message['content'] or '') + eos_token }}{%- endgeneration %}"
    "{{- '\\n' }}"
    "{%- elif message['role'] in ('system', 'developer') %}"
    "{{- '<|system|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{%- elif message['role'] in ('user', 'tool') %}"
    "{{- '<|user|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{%- else %}"
    "{{- raise_exception('unknown role ' + message['role']) }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"
)


def build_tokenizer(corpus: Corpus, vocab_size: int, context_tokens: int) -> PreTrainedTokenizerFast:
    """Learn at most ``vocab_size`` tokens, the special ones included, from ``corpus``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BEGIN, END, SYSTEM, USER, ASSISTANT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_text(corpus), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_tokens,
        clean_up_tokenization_spaces=False,
    )
