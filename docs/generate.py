"""Generate the tables under docs/reference from the code they describe.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 when what is committed is stale
"""

import argparse
import json
import sys
from pathlib import Path

from argosy.autoscaler.settings import AutoscalerSettings
from argosy.decode.settings import DecodeSettings
from argosy.domain.errors import Reason
from argosy.domain.lifecycle import MEANING, SLEEP, STOP, TABLE, WAKE
from argosy.mesh.facts import all_facts
from argosy.mesh.settings import ServiceSettings, describe
from argosy.node_agent.settings import NodeAgentSettings
from argosy.operator.settings import OperatorSettings
from argosy.prefill.settings import PrefillSettings
from argosy.router.settings import RouterSettings
from argosy.router.shell.openai.options import INSTEAD, NO_EFFECT, UNSUPPORTED
from argosy.router.shell.openai.schema import (
    ANSWERS_MAX,
    CHOICES_MAX,
    ChatRequest,
    CompletionRequest,
)
from argosy.router.shell.sampling_limits import (
    FORM_CHARS_MAX,
    LOGIT_BIAS_MAX,
    LOGIT_BIASES_MAX,
    RANGES,
    STOP_CHARS_MAX,
    STOP_STRINGS_MAX,
    STOP_TOKENS_MAX,
)

REFERENCE = Path(__file__).parent / "reference"
SERVICES: tuple[type[ServiceSettings], ...] = (
    RouterSettings,
    PrefillSettings,
    DecodeSettings,
    NodeAgentSettings,
    OperatorSettings,
    AutoscalerSettings,
)


def facts_table() -> str:
    """Every fact: its subject, message, and which bus it travels on."""
    rows = ["# Facts", "", "Subjects begin with `argosy.<fleet>.`. Generated from `proto/`.", ""]
    rows += ["| subject | message | on |", "|---|---|---|"]
    for fact in sorted(all_facts(), key=lambda fact: fact.subject):
        kept = "JetStream, all of a month" if fact.history else "JetStream, kept"
        plane = kept if fact.control else "core NATS"
        subject = f"{fact.subject}.<{fact.key}>" if fact.key else fact.subject
        rows.append(f"| `{subject}` | `{fact.message.DESCRIPTOR.full_name}` | {plane} |")
    return "\n".join(rows) + "\n"


def errors_table() -> str:
    """Every reason a request can be refused or fail for."""
    rows = [
        "# Errors",
        "",
        "Generated from `argosy.domain.errors.Reason`. The reason travels in the",
    ]
    rows += ["trailing metadata `argosy-reason`, and as `error.reason` over HTTP, where"]
    rows += ["`error.type` and `error.code` are OpenAI's.", ""]
    rows += ["| reason | gRPC | HTTP | OpenAI's type, code | meaning |", "|---|---|---|---|---|"]
    for reason in Reason:
        to = reason.value
        openai = f"`{to.openai_type}`" + (f", `{to.openai_code}`" if to.openai_code else "")
        rows.append(f"| `{reason.name}` | `{to.grpc}` | {to.http} | {openai} | {to.meaning} |")
    return "\n".join(rows) + "\n"


def options_table() -> str:
    """What the OpenAI API does with every option of a request."""
    rows = ["# Options of OpenAI requests", ""]
    rows += [
        "Generated from `argosy.router.shell.openai`. Any other option is refused. `null` is the"
    ]
    rows += ["same as absent, and `4.0` the same as `4`.", ""]
    chat, plain = set(ChatRequest.__struct_fields__), set(CompletionRequest.__struct_fields__)
    rows += ["| honoured | in chats | in completions |", "|---|---|---|"]
    for name in sorted(chat | plain):
        rows.append(
            f"| `{name}` | {'yes' if name in chat else ''} | {'yes' if name in plain else ''} |"
        )
    rows += ["", "| accepted, no effect | because |", "|---|---|"]
    rows += [f"| `{name}` | {why} |" for name, why in NO_EFFECT.items()]
    rows += ["", "| not supported | values that ask for nothing | instead |", "|---|---|---|"]
    for name, values in sorted(UNSUPPORTED.items()):
        accepted = ", ".join(f"`{json.dumps(value)}`" for value in values)
        rows.append(f"| `{name}` | {accepted} | {INSTEAD.get(name, '')} |")
    rows += ["", "| limit | of one request |", "|---|---|", f"| `n` | 1 to {CHOICES_MAX} |"]
    rows += [
        f"| prompts x `n` | {ANSWERS_MAX} |",
        f"| `stop` | {STOP_STRINGS_MAX} strings of 1 to {STOP_CHARS_MAX} characters |",
        f"| `stop_token_ids` | {STOP_TOKENS_MAX} |",
    ]
    rows += [f"| `logit_bias` | {LOGIT_BIASES_MAX} tokens, -{LOGIT_BIAS_MAX} to {LOGIT_BIAS_MAX} |"]
    rows += [
        f"| a schema, regular expression, grammar, or all choices | {FORM_CHARS_MAX} characters |"
    ]
    rows += [f"| `{name}` | {low} to {high} |" for name, (low, high) in RANGES.items()]
    return "\n".join(rows) + "\n"


def lifecycle_page() -> str:
    """An instance's states and transitions, drawn and as a table."""
    rows = ["# The lifecycle of an instance", ""]
    rows += ["Generated from `argosy.domain.lifecycle`. An instance makes no other transition than"]
    rows += ["these. Each is published as a fact, with its cause, its number and the decision"]
    rows += ["behind it. `argosy.domain.lifecycle_view` says how services order these facts.", ""]
    rows += ["```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    rows += [f"    {r.before} --> {r.after}: {r.fact}" for r in TABLE]
    rows += ["```", ""]
    rows += ["| state | meaning |", "|---|---|"]
    rows += [f"| `{state}` | {meaning} |" for state, meaning in MEANING.items()]
    rows += ["", "| from | to | who may cause it | fact |", "|---|---|---|---|"]
    rows += [f"| `{r.before}` | `{r.after}` | {r.who} | `{r.fact}` |" for r in TABLE]
    for title, steps in (("sleep", SLEEP), ("wake", WAKE), ("stop", STOP)):
        rows += ["", f"To {title}: {' → '.join(f'`{step}`' for step in steps)}."]
    return "\n".join(rows) + "\n"


def settings_tables() -> str:
    """Every setting of every service."""
    parts = ["# Settings\n", "Generated. A YAML file named by `ARGOSY_<SERVICE>_SETTINGS` may hold"]
    parts += ["the same names in lower case, without prefix; the environment wins over it.\n"]
    for kind in SERVICES:
        name = kind.prefix().removeprefix("ARGOSY_").removesuffix("_").lower().replace("_", "-")
        parts += [f"## {name}\n", describe(kind), ""]
    return "\n".join(parts).rstrip() + "\n"


TABLES = {
    "facts.md": facts_table,
    "errors.md": errors_table,
    "lifecycle.md": lifecycle_page,
    "settings.md": settings_tables,
    "openai-options.md": options_table,
}


def main() -> None:
    """Write or compare; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    checking = parser.parse_args().check
    for name, table in TABLES.items():
        path = REFERENCE / name
        if not checking:
            path.write_text(table())
        elif not path.exists() or path.read_text() != table():
            sys.exit(f"{path} is stale. Run `make docs` and commit the result.")


if __name__ == "__main__":
    main()
