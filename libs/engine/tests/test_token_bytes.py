"""Half characters anywhere: the text is the tokenizer's own, and each token keeps its bytes."""

import re
import string
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.text import TextStream, Tokenizer
from argosy.engine.text.chat_template import ChatTemplates
from argosy.engine.text.token_bytes import BYTE_OF, INCOMPLETE

MARK = "<|end|>"
PARTS = [
    b" x",
    b"x",
    b"\xc3",
    b" \xc3",
    b"\xa9",
    b"\xa9\xc3",
    b"\xf0\x9f",
    b"\x98\x80",
    b"\xe2\x82",
]
LLAMA_2 = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)
GEMMA = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def finished(encoder: Encoder) -> Tokenizer:
    encoder.add_special_tokens([AddedToken(MARK)])
    encoder.add_tokens([AddedToken(" lamp", normalized=False)])
    return Tokenizer(encoder, ChatTemplates({}, {}), ())


def byte_level() -> Tokenizer:
    """As GPT-2, Qwen and Llama 3."""
    character = {byte: shown for shown, byte in BYTE_OF.items()}
    spelt = ["".join(character[byte] for byte in part) for part in PARTS]
    names = dict.fromkeys([*BYTE_OF, *spelt])
    encoder = Encoder(models.BPE({name: at for at, name in enumerate(names)}, []))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.decoder = decoders.ByteLevel()
    return finished(encoder)


def byte_fallback(decoder: decoders.Decoder) -> Tokenizer:
    """As Llama 2, Mistral 7B and Gemma."""
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    names += [*string.ascii_letters, "▁", "▁x", "▁▁", "é", "▁é"]
    vocabulary = {name: at for at, name in enumerate(names)}
    encoder = Encoder(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<0x00>"))
    encoder.decoder = decoder
    return finished(encoder)


def metaspace() -> Tokenizer:
    """As T5: no bytes at all."""
    names = [*string.ascii_letters, "▁", "▁x", "▁▁"]
    encoder = Encoder(models.WordLevel({name: at for at, name in enumerate(names)}, "x"))
    encoder.decoder = decoders.Metaspace()
    return finished(encoder)


BYTE_LEVEL, FALLBACK, STRIPPED = byte_level(), byte_fallback(GEMMA), byte_fallback(LLAMA_2)
METASPACE = metaspace()
ALL = [BYTE_LEVEL, FALLBACK, STRIPPED, METASPACE]
FAMILIES = {"byte-level": ALL[0], "byte-fallback": ALL[1], "stripped": ALL[2], "metaspace": ALL[3]}


def ids_of(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    """Tokens in which bytes of characters are frequent."""
    size = tokenizer.encoder.get_vocab_size()
    halves = [i for i in range(size) if tokenizer.token_bytes[i] and not whole(tokenizer, i)]
    few = [i for i in halves if tokenizer.token_bytes[i][-1] in b"\x9f\xa9\xc3\xe2\xf0\x82\x98"]
    chosen = st.integers(0, size - 1)
    return st.lists(chosen | st.sampled_from(few) if few else chosen, max_size=12)


def whole(tokenizer: Tokenizer, token_id: int) -> bool:
    return INCOMPLETE not in tokenizer.token_bytes[token_id].decode(errors="replace")


def pieces(
    tokenizer: Tokenizer, prompt: Sequence[int], ids: Sequence[int], stop: Sequence[str] = ()
) -> list[str]:
    stream = TextStream(tokenizer, prompt, stop)
    return [*(stream.push(token_id) for token_id in ids), stream.finish()]


def spelt_in_bytes(tokenizer: Tokenizer, ids: Sequence[int]) -> list[bytes]:
    """The runs of byte tokens in `ids`, as byte-fallback decoders see them."""
    names = [tokenizer.encoder.id_to_token(token_id) or "" for token_id in ids]
    runs = re.findall(r"(?:<0x..>)+", "".join(name for name in names if name != MARK))
    return [bytes.fromhex(run.replace("<0x", "").replace(">", "")) for run in runs]


def drawn(name: str, data: st.DataObject) -> tuple[Tokenizer, list[int], str]:
    """A family's tokenizer, any tokens of it, and the text they make as they come."""
    tokenizer = FAMILIES[name]
    ids = data.draw(ids_of(tokenizer))
    return tokenizer, ids, "".join(pieces(tokenizer, [], ids))


@settings(max_examples=examples(100))
@given(data=st.data())
@pytest.mark.parametrize("name", ["byte-level", "metaspace"])
def test_any_tokens_give_the_text_that_the_tokenizer_gives_them(
    name: str, data: st.DataObject
) -> None:
    tokenizer, ids, joined = drawn(name, data)
    assert tokenizer.encoder.decode(ids) in [joined + INCOMPLETE * held for held in range(3)]


@settings(max_examples=examples(200))
@given(data=st.data())
@pytest.mark.parametrize("name", ["byte-fallback", "stripped"])
def test_bytes_that_are_no_characters_give_what_the_tokenizer_gives_but_whole_ones_stay(
    name: str, data: st.DataObject
) -> None:
    """The tokenizer drops even whole characters of a run of bytes if others of it are broken."""
    tokenizer, ids, joined = drawn(name, data)
    wanted = tokenizer.encoder.decode(ids)
    if any(broken_beside_whole(run) for run in spelt_in_bytes(tokenizer, ids)):
        spelt = b"".join(tokenizer.token_bytes[i] for i in ids if i not in tokenizer.special_ids)
        kept = spelt.decode(errors="ignore")
        assert joined.replace(INCOMPLETE, "") in (kept, kept.removeprefix(" "))
    else:
        assert wanted in [joined + INCOMPLETE * held for held in range(4)]


def broken_beside_whole(run: bytes) -> bool:
    decoded = run.decode(errors="replace")
    return INCOMPLETE in decoded and decoded.strip(INCOMPLETE) != ""


@settings(max_examples=examples(100))
@given(data=st.data(), stop=st.lists(st.text("x é😀", min_size=1, max_size=3), max_size=2))
@pytest.mark.parametrize("name", FAMILIES)
def test_with_stop_strings_the_text_is_the_same_up_to_the_first_of_them(
    name: str, data: st.DataObject, stop: list[str]
) -> None:
    tokenizer = FAMILIES[name]
    ids = data.draw(ids_of(tokenizer))
    free, joined = ("".join(pieces(tokenizer, [], ids, with_stop)) for with_stop in ([], stop))
    ends = [free.find(string) for string in stop if string in free]
    assert joined == (free[: min(ends)] if ends else free)


@pytest.mark.parametrize("name", ["byte-fallback", "stripped"])
def test_half_a_character_after_a_whole_one_is_replaced_and_the_answer_goes_on(name: str) -> None:
    tokenizer = FAMILIES[name]
    ids = [tokenizer.encoder.token_to_id(t) for t in ("x", "<0xC3>", "<0xA9>", "<0xC3>", "x")]
    assert pieces(tokenizer, [0], [i for i in ids if i is not None]) == [
        "x",
        "",
        "é",
        "",
        "\ufffdx",
        "",
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_bytes_of_tokens_joined_are_the_bytes_of_the_text(name: str) -> None:
    tokenizer = FAMILIES[name]
    words = ["x", "▁x", "Ġx", " lamp", "▁", "▁é", "a"]
    ids = [i for w in words if (i := tokenizer.encoder.token_to_id(w)) is not None]
    joined = b"".join(tokenizer.token_bytes[i] for i in ids)
    assert joined.decode() == tokenizer.encoder.decode(ids)


def test_each_byte_of_a_character_is_its_tokens_own() -> None:
    for tokenizer in (BYTE_LEVEL, FALLBACK, STRIPPED):
        table = tokenizer.token_bytes
        singles = sorted(table[i] for i in range(256) if len(table[i]) == 1)
        assert singles == [bytes([byte]) for byte in range(256)]
    parts = {BYTE_LEVEL.token_bytes[i] for i in range(BYTE_LEVEL.encoder.get_vocab_size())}
    assert parts >= set(PARTS)


def test_a_space_that_begins_a_token_is_dropped_only_where_the_text_begins() -> None:
    x, mark = (STRIPPED.encoder.token_to_id(name) for name in ("▁x", MARK))
    assert x is not None
    assert mark is not None
    assert pieces(STRIPPED, [mark], [mark, x, x]) == ["", "x", " x", ""]
    assert pieces(STRIPPED, [x, mark], [x, x]) == [" x", " x", ""]
    assert STRIPPED.token_bytes[x] == b" x"


def test_special_tokens_have_bytes_but_no_place_in_the_text() -> None:
    for tokenizer in ALL:
        mark = tokenizer.encoder.token_to_id(MARK)
        assert mark is not None
        assert tokenizer.token_bytes[mark].strip() == MARK.encode()
        assert pieces(tokenizer, [], [mark]) == ["", ""]


def test_ids_beyond_the_vocabulary_have_no_text() -> None:
    for tokenizer in ALL:
        assert pieces(tokenizer, [], [10**6]) == ["", ""]
        assert 10**6 not in tokenizer.token_bytes


@settings(max_examples=examples(100))
@given(data=st.data())
@pytest.mark.parametrize("name", FAMILIES)
def test_whole_tokens_stand_in_the_text_where_their_offsets_say(
    name: str, data: st.DataObject
) -> None:
    tokenizer = FAMILIES[name]
    ids = data.draw(ids_of(tokenizer))
    prompt = [tokenizer.encoder.token_to_id("x") or 0]  # so that no space is dropped
    stream, joined, offsets = TextStream(tokenizer, prompt, ["never"]), "", []
    for token_id in ids:
        offsets.append(stream.offset_of(token_id))
        joined += stream.push(token_id)
    joined += stream.finish()
    assert offsets == sorted(offsets)
    for token_id, offset in zip(ids, offsets, strict=True):
        if token_id not in tokenizer.special_ids and whole(tokenizer, token_id):
            token = tokenizer.token_bytes[token_id].decode()
            assert joined[offset : offset + len(token)] == token


def test_a_token_inside_a_character_has_the_offset_of_that_character() -> None:
    stream, offsets = TextStream(BYTE_LEVEL, [], ["zz"]), []
    for token_id in BYTE_LEVEL.encode("é😀z" + MARK):
        offsets.append(stream.offset_of(token_id))
        stream.push(token_id)
    assert offsets == [0, 0, 1, 1, 1, 1, 2, 3]


def test_a_decoder_whose_tokens_depend_on_their_neighbours_is_refused() -> None:
    encoder = Encoder(models.BPE({"a</w>": 0}, [], end_of_word_suffix="</w>"))
    encoder.decoder = decoders.BPEDecoder()
    with pytest.raises(ArgosyError, match="BPEDecoder") as refused:
        _ = finished(encoder).token_bytes
    assert refused.value.reason is Reason.NOT_READY


def test_tokens_decode_to_their_text_and_unknown_ones_are_refused() -> None:
    ids = BYTE_LEVEL.encode("é lamp" + MARK)
    assert BYTE_LEVEL.decode(ids) == "é lamp" + MARK
    assert BYTE_LEVEL.decode(ids, skip_special_tokens=True) == "é lamp"
    for unknown in (10**6, -1, 2**40):
        with pytest.raises(ArgosyError, match=f"token id {unknown} is not") as refused:
            BYTE_LEVEL.decode([unknown])
        assert refused.value.reason is Reason.BAD_REQUEST
