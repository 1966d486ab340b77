"""Column names in published datasets, by role."""

import re

from pipeline_lib.init.column import Column

ROLES = {
    "text": "text sentence content review review_text message tweet comment comment_text body document utterance query "
    "sms post headline news description email sentences",
    "label": "label labels class category categories intent sentiment topic gold_label emotion polarity target_label y "
    "stars rating overall score similarity_score similarity genre spam toxicity stance tag is_duplicate quality",
    "tokens": "tokens words token word form",
    "tags": "tags ner_tags ner pos_tags pos upos slots slot_labels chunk_tags word_labels token_labels labels label "
    "entities bio iob",
    "question": "question query questions",
    "context": "context passage paragraph text",
    "answers": "answers answer",
    "source": "source src mr meaning_representation document article dialogue dialog input_text source_text original "
    "complex noisy data",
    "target": "target tgt ref reference references summary highlights translation target_text simple simplified "
    "corrected paraphrase tldr",
    "prompt": "prompt instruction instructions question query user human problem",
    "input": "input context",
    "answer": "output response completion answer assistant chosen solution reply",
    "messages": "messages conversations conversation dialog dialogue turns",
    "tools": "tools functions",
    "system": "system system_prompt",
}
GROUPS = (
    "document_id doc_id document doc article_id user user_id author author_id thread thread_id conversation_id "
    "dialogue_id session session_id patient patient_id speaker_id subject_id customer_id ticket_id"
)
NAMED = {role: tuple(names.split()) for role, names in ROLES.items()}
GROUP_NAMES = tuple(GROUPS.split())
PAIRS = (
    ("premise", "hypothesis"),
    ("premise", "hypo"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "title"),
    ("claim", "evidence"),
    ("text", "text_pair"),
    ("anchor", "positive"),
    ("title", "description"),
    ("title", "body"),
    ("subject", "body"),
)
NUMBERED = (re.compile(r"(?P<name>.+?)_?(?P<number>[12ab])"), re.compile(r"(?P<number>[12])_(?P<name>.+)"))
"""sentence1 and sentence2, text_a and text_b; 1_string and 2_string."""


def normalize_name(name: str) -> str:
    """A column's name without its case, with underscores."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"\W+", "_", words).strip("_").lower()


def plays(column: Column, role: str) -> bool:
    """Whether a column has one of the names of a role."""
    return normalize_name(column.name) in NAMED[role]


def is_group(column: Column) -> bool:
    """Whether a column names documents, users or threads whose rows belong together."""
    return normalize_name(column.name) in GROUP_NAMES


def are_pair(one: Column, other: Column) -> bool:
    """Whether two columns are the first and the second text of a pair, by their names."""
    names = normalize_name(one.name), normalize_name(other.name)
    if names in PAIRS:
        return True
    for pattern in NUMBERED:
        first, second = (pattern.fullmatch(name) for name in names)
        if first and second and first["name"] == second["name"]:
            return (first["number"], second["number"]) in (("1", "2"), ("a", "b"))
    return False
