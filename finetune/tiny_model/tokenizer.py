"""The tiny model's tokenizer: byte-level BPE learned from the project's own text, and its chat template."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from finetune.tiny_model.text import Corpus, tokenizer_text

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT, TOOL = "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
CALL, END_OF_CALL = "<tool_call>", "</tool_call>"
"""Around each call of a tool; a token each, and text for whoever reads an answer."""

# What the generation marks enclose is what an assistant-only loss trains: the answer and its end of turn. Of
# tools it tells the names and what they are called with alone, since a small model reads no schemas.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- if tools %}"
    "{{- '<|system|>\\n' }}"
    "{%- for tool in tools %}"
    "{%- set called_with = (tool.function.parameters or {}).properties or {} %}"
    "{{- tool.function.name + '(' + called_with | join(', ') + ')\\n' }}"
    "{%- endfor %}"
    "{{- eos_token + '\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|assistant|>\\n' }}"
    "{%- generation %}"
    "{{- message['content'] or '' }}"
    "{%- for call in message['tool_calls'] or [] %}"
    "{%- set called = call.function %}"
    '{{- \'<tool_call>\\n{"name": "\' + called.name + \'", "arguments": \' }}'
    "{{- called.arguments if called.arguments is string else called.arguments | tojson }}"
    "{{- '}\\n</tool_call>' }}"
    "{%- endfor %}"
    "{{- eos_token }}"
    "{%- endgeneration %}"
    "{{- '\\n' }}"
    "{%- elif message['role'] in ('system', 'developer') %}"
    "{{- '<|system|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{%- elif message['role'] == 'tool' %}"
    "{{- '<|tool|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{%- elif message['role'] == 'user' %}"
    "{{- '<|user|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{%- else %}"
    "{{- raise_exception('unknown role ' + message['role']) }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"
)


def build_tokenizer(
    corpus: Corpus, vocab_size: int, context_tokens: int, more_text: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """Learn at most ``vocab_size`` tokens, the special ones included, from ``corpus`` and more."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len((CALL, END_OF_CALL)),
        special_tokens=[PAD, BEGIN, END, SYSTEM, USER, ASSISTANT, TOOL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*tokenizer_text(corpus), *more_text], trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (CALL, END_OF_CALL)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT, TOOL],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_tokens,
        clean_up_tokenization_spaces=False,
    )
