"""Text from tokens as they come: nothing lost, no stop string leaked, resumable anywhere."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples
from tokenizers import Tokenizer as Encoder

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine import text
from argosy.engine.text import TextStream

SIM = text.sim_tokenizer()
INCOMPLETE = "\ufffd"
WORDS = st.sampled_from(text.SIM_WORDS)
PROSE = st.lists(WORDS | st.text(max_size=6), max_size=12).map("".join)
BYTES = st.lists(st.integers(0, 255), max_size=30)
STOPS = st.lists(st.text("abc the", min_size=1, max_size=4), max_size=3)


def pieces(prompt: Sequence[int], tokens: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    stream = TextStream(SIM, prompt, stop)
    found = [stream.push(token) for token in tokens]
    return [*found, stream.finish()]


@settings(max_examples=examples(200))
@given(prose=PROSE, prompt=PROSE)
def test_pieces_joined_are_the_text_whatever_the_prompt_was(prose: str, prompt: str) -> None:
    joined = "".join(pieces(SIM.encode(prompt), SIM.encode(prose)))
    assert joined == prose


@settings(max_examples=examples(200))
@given(tokens=BYTES, prompt=BYTES)
def test_bytes_that_are_no_text_come_out_as_the_decoder_has_them(
    tokens: list[int], prompt: list[int]
) -> None:
    decoded = SIM.encoder.decode(tokens)
    joined = "".join(pieces(SIM.encode(" sail"), tokens))
    # The last bytes may still become a character.
    assert decoded in [joined + INCOMPLETE * held for held in range(3)]
    assert "".join(pieces(prompt, tokens)) == joined


def test_a_character_comes_out_whole_with_its_last_byte() -> None:
    assert pieces([], SIM.encode("a😀")) == ["a", "", "", "", "😀", ""]


def test_special_tokens_are_not_part_of_the_text() -> None:
    tokens = [*SIM.encode(" lamp"), *SIM.eos_token_ids, *SIM.encode(" door")]
    assert "".join(pieces([], tokens)) == " lamp door"


@settings(max_examples=examples(200))
@given(prose=st.text("abc the", max_size=30), stop=STOPS)
def test_a_stop_string_ends_the_text_and_is_no_part_of_it(prose: str, stop: list[str]) -> None:
    joined = "".join(pieces([], SIM.encode(prose), stop))

    assert prose.startswith(joined)
    assert not any(text in joined for text in stop)
    rest = prose[len(joined) :]
    assert rest == "" or any(rest.startswith(text) for text in stop)


def test_text_that_only_began_like_a_stop_string_is_given_in_the_end() -> None:
    assert pieces([], SIM.encode("abc"), ["bcd"]) == ["a", "", "", "bc"]


@pytest.mark.parametrize("stop", [["lamp", " l"], [" l", "lamp"]])
def test_of_stop_strings_in_one_token_the_one_that_begins_first_counts(stop: list[str]) -> None:
    assert pieces([], SIM.encode(" door lamp"), stop) == [" door", "", ""]


def test_nothing_comes_out_after_a_stop_string() -> None:
    stream = TextStream(SIM, [], ["."])
    assert [stream.push(token) for token in SIM.encode("a.b")] == ["a", "", ""]
    assert (stream.stopped, stream.finish()) == (True, "")


def test_empty_stop_strings_stop_nothing() -> None:
    assert "".join(pieces([], SIM.encode("abc"), ["", "x"])) == "abc"


@settings(max_examples=examples(60))
@given(prose=PROSE, stop=STOPS)
def test_a_resumed_stream_goes_on_exactly_where_it_stopped(prose: str, stop: list[str]) -> None:
    prompt, tokens = SIM.encode(" compass"), SIM.encode(prose)
    whole = pieces(prompt, tokens, stop)
    for split in range(len(tokens) + 1):
        resumed = TextStream(SIM, prompt, stop)
        for token in tokens[:split]:
            resumed.push(token)

        rest = [resumed.push(token) for token in tokens[split:]]
        assert [*rest, resumed.finish()] == whole[split:]


@pytest.mark.parametrize("prompt", ["hello wor\ufffd", "\ufffd", "\ufffd" * 9])
def test_no_part_of_the_prompt_leaks_into_the_answer(prompt: str) -> None:
    assert pieces(SIM.encode(prompt), SIM.encode("abc")) == ["a", "b", "c", ""]


def test_a_prompt_cut_inside_a_character_does_not_leak_into_the_answer() -> None:
    cut = SIM.encode("hello 😀")[:-1]
    assert pieces(cut, SIM.encode("abc")) == ["a", "b", "c", ""]


@given(prose=PROSE)
def test_encoding_and_decoding_gives_the_text_back(prose: str) -> None:
    assert SIM.encoder.decode(SIM.encode(prose)) == prose


@pytest.mark.parametrize("words", ["\ud800", "a\udfffb", "\udc00\ud800"])
def test_lone_surrogates_are_a_bad_request(words: str) -> None:
    with pytest.raises(ArgosyError) as plain:
        SIM.encode(words)
    with pytest.raises(ArgosyError) as chat:
        SIM.encode_chat([{"role": "user", "content": words}])
    assert plain.value.reason is chat.value.reason is Reason.BAD_REQUEST


def test_a_chat_ends_where_the_assistant_speaks() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rendered = SIM.encoder.decode(SIM.encode_chat(messages), skip_special_tokens=False)
    assert rendered == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_marks_of_a_chat_are_one_token_each() -> None:
    tokens = SIM.encode_chat([{"role": "user", "content": ""}])
    assert tokens.count(SIM.eos_token_ids[0]) == 1


def model_folder(folder: Path, config: dict[str, object], **files: str) -> Path:
    SIM.encoder.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_a_model_ends_its_answers_with_every_token_its_files_name(tmp_path: Path) -> None:
    folder = model_folder(
        tmp_path,
        {"eos_token": {"content": "<|im_end|>"}},
        generation_config__json='{"eos_token_id": [5, 6]}',
    )
    assert text.load(str(folder)).eos_token_ids == (SIM.eos_token_ids[0], 5, 6)


def test_the_template_beside_the_model_goes_before_the_one_inside(tmp_path: Path) -> None:
    folder = model_folder(
        tmp_path, {"chat_template": "inside"}, chat_template__jinja="beside {{ messages[0].x }}"
    )
    loaded = text.load(str(folder))
    assert loaded.encoder.decode(loaded.encode_chat([{"x": "me"}])) == "beside me"


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('roles must alternate') }}", "{{ messages + 1 }}", "{% if %}", ""],
)
def test_messages_a_template_refuses_are_a_bad_request(tmp_path: Path, template: str) -> None:
    loaded = text.load(str(model_folder(tmp_path, {"chat_template": template})))
    with pytest.raises(ArgosyError) as refused:
        loaded.encode_chat([{"role": "user", "content": "hi"}])
    assert refused.value.reason is Reason.BAD_REQUEST


def test_a_template_cannot_reach_python(tmp_path: Path) -> None:
    template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    loaded = text.load(str(model_folder(tmp_path, {"chat_template": template})))
    with pytest.raises(ArgosyError) as refused:
        loaded.encode_chat([])
    assert refused.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("missing", ["tokenizer.json", "tokenizer_config.json"])
def test_a_folder_without_model_files_says_what_is_missing(tmp_path: Path, missing: str) -> None:
    folder = model_folder(tmp_path, {})
    (folder / missing).unlink()
    with pytest.raises(ArgosyError) as refused:
        text.load(str(folder))
    assert refused.value.reason is Reason.NOT_READY
    assert str(folder) in refused.value.message
    assert "argosy model fetch" in refused.value.message


def test_limits_that_training_left_in_a_tokenizer_cut_no_prompt(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, {})
    trained = Encoder.from_file(str(folder / "tokenizer.json"))
    trained.enable_truncation(2)
    trained.enable_padding(length=8)
    trained.save(str(folder / "tokenizer.json"))
    assert text.load(str(folder)).encode("abc") == SIM.encode("abc")
