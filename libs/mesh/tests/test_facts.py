"""Facts: every one of the contract is known, and no two share a subject."""

import re
from pathlib import Path

import pytest

from argosy.mesh import facts
from argosy.wire.inference.v1.inference_pb2 import Prompt
from argosy.wire.instance.v1.events_pb2 import InstanceReady
from argosy.wire.prefill.v1.events_pb2 import LoadReported

PROTO = Path(__file__).parents[3] / "proto"
ALL = facts.all_facts()
CONTROL_KEYS = [fact for fact in ALL if fact.key]


def subjects_in_protos() -> list[str]:
    texts = [path.read_text() for path in sorted(PROTO.rglob("*.proto"))]
    return [s for text in texts for s in re.findall(r'v1\.fact\) = \{subject: "([^"]+)"', text)]


def test_every_fact_in_a_proto_is_found_and_has_a_subject_of_its_own() -> None:
    subjects = subjects_in_protos()
    assert subjects
    assert len(set(subjects)) == len(subjects)
    assert sorted(fact.subject for fact in ALL) == sorted(subjects)


@pytest.mark.parametrize("fact", ALL, ids=lambda fact: fact.message.DESCRIPTOR.full_name)
def test_a_facts_subject_names_its_source_and_matches_its_own_pattern_only(
    fact: facts.FactType,
) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", fact.subject)
    filled = fact.message(**{fact.key: "i-1"}) if fact.key else fact.message()
    subject = facts.subject_of("demo", filled)
    assert [f.message for f in ALL if matches(facts.pattern_of("demo", f.message), subject)] == [
        fact.message
    ]


@pytest.mark.parametrize("fact", CONTROL_KEYS, ids=lambda fact: fact.subject)
def test_a_key_is_a_string_field_of_its_fact(fact: facts.FactType) -> None:
    field = fact.message.DESCRIPTOR.fields_by_name[fact.key]
    assert field.type == field.TYPE_STRING


@pytest.mark.parametrize("name", ["node.with.dots", "a b", "*", ">", "ü", "plain-1_2"])
def test_any_name_makes_one_token_of_a_subject(name: str) -> None:
    subject = facts.subject_of(name, InstanceReady(instance_id=name))
    assert len(subject.split(".")) == 5
    assert re.fullmatch(r"[A-Za-z0-9._%-]+", subject)


def test_other_names_make_other_subjects() -> None:
    names = ["a.b", "a-b", "a_b", "a%2Eb", "ab", "A.b"]
    assert len({facts.subject_of("f", InstanceReady(instance_id=n)) for n in names}) == len(names)


def test_a_message_that_is_no_fact_has_no_subject() -> None:
    with pytest.raises(KeyError, match=r"inference\.v1\.Prompt"):
        facts.subject_of("demo", Prompt())


def test_high_rate_facts_stay_off_the_control_plane() -> None:
    assert not facts.fact_type(LoadReported).control
    assert facts.fact_type(InstanceReady).control


def matches(pattern: str, subject: str) -> bool:
    """As NATS does it: `*` stands for one token."""
    tokens, wanted = subject.split("."), pattern.split(".")
    return len(tokens) == len(wanted) and all(
        w in ("*", t) for t, w in zip(tokens, wanted, strict=True)
    )
