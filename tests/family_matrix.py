"""Every family x objective x strategy: does it train, save and load as promised, or is it refused before training?

    python tests/family_matrix.py                 all of them (half an hour on one core)
    python tests/family_matrix.py --rotate 2      two of the objectives for each strategy, others for each family
    python tests/family_matrix.py mpnet xlnet     some families; --verbose prints every refusal and every crash
    python tests/family_matrix.py --processes 2   sharded: do two processes compute what one does?

Prints a line for each family: how many combinations are ok, refused (one sentence, before training) and crashed. The
exit code is 1 where any crashed.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parent))

from conftest import word_tokenizer
from contract import keeps_its_promises
from families import FAMILIES, rotation, tokenizer_kind, write_family
from ranks import Ranks, compare
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.huggingface import write_plain
from pipeline_lib.store.lineage import Lineage

EXPERTS = ("deepseek_v3", "gpt_oss", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
"""Mixtures of experts."""
EXPORTED = ("full", "lora")
"""Strategies whose models are also written as plain folders, and compared on the rows."""


def tried(base: Path, objective: str, strategy: str) -> tuple[str, str]:
    """ok, refused or crashed, and why."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            it = keeps_its_promises(base, objective, strategy, Path(folder), steps=2)
            if strategy in EXPORTED:
                write_plain(Lineage(Path(folder) / "model", base), Path(folder) / "plain", it.table)
        except RecipeError as error:
            return "refused", " ".join(str(error).split())
        except Exception as error:
            return "crashed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "ok", ""


def tried_sharded(alone: Ranks, several: Ranks, base: Path, objective: str, strategy: str) -> tuple[str, str]:
    """ok, refused or crashed, and why, of a training whose model several processes divide."""
    is_routed = base.name in EXPERTS  # the loss of routers is a mean over passes, which are others
    try:
        answers = compare(alone, several, base, objective, strategy, rel=1e-3 if is_routed else 1e-6)
    except AssertionError as error:
        return "crashed", " ".join(str(error).split())[-300:]
    return ("refused", answers[0]["refused"]) if "refused" in answers[0] else ("ok", "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=[*FAMILIES])
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--rotate", type=int, default=5, metavar="N")
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    disable_progress_bar()
    set_verbosity_error()
    is_sharded = options.processes > 1
    try_one = partial(tried_sharded, Ranks(1), Ranks(options.processes)) if is_sharded else tried
    total: Counter[str] = Counter()
    print(f"{'family':16} {'ok':>4} {'refused':>8} {'crashed':>8} {'seconds':>8}", flush=True)
    for family in options.families:
        begun, counts, reasons = time.monotonic(), Counter(), {}
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / family
            write_family(family, word_tokenizer(tokenizer_kind(family)), base)
            for objective, strategy in rotation(family, options.rotate):
                state, why = try_one(base, objective, strategy)
                counts[state] += 1
                reasons.setdefault((state, why), []).append(f"{objective}/{strategy}")
        numbers = " ".join(f"{counts[state]:>8}" for state in ("refused", "crashed"))
        print(f"{family:16} {counts['ok']:>4} {numbers} {time.monotonic() - begun:>8.1f}", flush=True)
        for (state, why), combinations in reasons.items():
            if state == "crashed" or (options.verbose and why):
                print(f"    {state} {', '.join(combinations)}: {why}", flush=True)
        total += counts
    print(f"{len(options.families)} families: {total['ok']} ok, {total['refused']} refused, {total['crashed']} crashed")
    return 1 if total["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
