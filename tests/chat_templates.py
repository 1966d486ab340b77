"""Chat templates of our own that behave like those of well-known families, and what is read and learned under one."""

from pipeline_lib.data.examples import IGNORED
from pipeline_lib.objectives import CausalLM

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "chatml-without-generation-prompt": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}",
    # an answer before the last question loses its thoughts; the last one gets an empty thought
    "qwen3-thinking": "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
    "{% set content = m.content if m.content is string else '' %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% set thought = m.reasoning_content or '' %}{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip() %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}<think>\n{{ thought.strip() }}\n</think>\n\n{% endif %}"
    "{{ content }}{% for call in m.tool_calls or [] %}{% if (loop.first and content) or not loop.first %}\n{% endif %}"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
    "</tool_call>{% endfor %}{% else %}{{ content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    # channels; the last answer ends otherwise than those before it
    "gpt-oss": "<|start|>system<|message|>You are a model.<|end|>{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.reasoning_content and loop.last %}<|start|>assistant<|channel|>analysis<|message|>"
    "{{ m.reasoning_content }}<|end|>{% endif %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% else %}<|start|>{{ m.role }}"
    "<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    # an end-of-text token after the dialogue unless an answer is asked for
    "phi3": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
    "llama3": "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    # no system message, strictly in turn, no generation prompt
    "mistral": "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}",
    # the system prompt moves into the last question
    "mistral-v3": "{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.last or loop.index0 == messages | length - 2 %}"
    "{{ system }}{% endif %}{{ m.content }}[/INST]{% elif m.role == 'assistant' %} "
    "{{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}",
    "gemma": "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "zephyr": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}<|assistant|>\n{% endif %}{% endfor %}",
    # a generation prompt that begins a thought, which no answer of the dialogue has
    "deepseek-r1": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% else %}"
    "{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
    "vicuna": "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }} {% elif m.role == 'user' %}"
    "USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "marked": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "marked-without-end": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    # two tokens end an answer, and the next answer's header always follows
    "command-r": "{{ bos_token }}{% for m in messages %}<|start|><|{{ m.role }}|>"
    "{% if m.role == 'assistant' %}<|message|>{{ m.content }}<|eot_id|>{% else %}{{ m.content }}{% endif %}<|end|>"
    "{% endfor %}<|start|><|assistant|>{% if add_generation_prompt %}<|message|>{% endif %}",
    # nothing ends an answer but the next question's header
    "glm4": "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<think></think>{% endif %}"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    # text, and the token that opens what the model writes, are part of an answer's end
    "kimi-k3": "{% for m in messages %}<|start|>{{ m.role }}<|message|>{% if m.role == 'assistant' %}<|channel|>final"
    "<|message|>{{ m.content }}<|end|>final<|message|><|return|>{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}",
    # ends that are ordinary text
    "alpaca": "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n{% else %}"
    "### Response:\n{{ m.content }}\n### End\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}",
}
ENDS = {
    "gpt-oss": ("<|end|>", "<|return|>"),
    "phi3": ("<|end|>",) * 2,
    "llama3": ("<|eot_id|>",) * 2,
    "mistral": ("</s>",) * 2,
    "mistral-v3": ("</s>",) * 2,
    "gemma": ("<end_of_turn>",) * 2,
    "zephyr": ("</s>",) * 2,
    "deepseek-r1": ("</s>",) * 2,
    "vicuna": ("</s>",) * 2,
    "command-r": ("<|eot_id|><|end|>",) * 2,
    "glm4": ("<|user|>", ""),
    "kimi-k3": ("<|end|>final<|message|><|return|>",) * 2,
    "alpaca": ("\n### End",) * 2,
}
"""What ends an answer that others follow, and the last one; ChatML's otherwise."""
INSERTED = {
    "qwen3-thinking": ("", "<think>\n\n</think>\n\n"),
    "gpt-oss": ("<|channel|>final<|message|>",) * 2,
    "glm4": ("<think></think>",) * 2,
    "kimi-k3": ("<|channel|>final<|message|>",) * 2,
    "mistral": (" ",) * 2,
    "mistral-v3": (" ",) * 2,
    "vicuna": (" ",) * 2,
}
"""What a template has the model write before an answer that others follow, and before the last one."""
SPECIAL = [
    *("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"),
    *(
        "<|return|>",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    *("<start_of_turn>", "<end_of_turn>", "<|User|>", "<|Assistant|>", "<think>", "</think>", "<tool_call>"),
    *("</tool_call>", "[INST]", "[/INST]"),
]


def byte_tokenizer(template):
    """A tokenizer of bytes with the special tokens of all families."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({token: index for index, token in enumerate([*SPECIAL, *letters])}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.add_special_tokens(SPECIAL)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=4096
    )
    tokenizer.chat_template = template
    return tokenizer


def encoded(tokenizer, messages, tools=None, **settings):
    """The text that is read, and each learned run as text."""
    objective = CausalLM(kind="causal_lm", **settings)
    row = objective.read_row(tokenizer, objective.clean({"messages": messages, "tools": tools}))
    columns = objective.encode(tokenizer, [row])
    (ids,), (targets,) = columns["input_ids"], columns["target_ids"]
    runs, before = [], IGNORED
    for target in targets:
        if target != IGNORED:
            runs.extend([[]] if before == IGNORED else [])
            runs[-1].append(target)
        before = target
    return tokenizer.decode(ids), [tokenizer.decode(run) for run in runs], columns["expected"][0]
