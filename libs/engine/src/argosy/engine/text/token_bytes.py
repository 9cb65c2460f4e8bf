"""What each token of a vocabulary is in bytes, be it only a part of a character.

Tokenizers spell bytes in two ways. Byte-level ones (GPT-2, Qwen, Llama 3) write each byte
as one printable character; byte-fallback ones (Llama 2, Mistral 7B, Gemma) have a token
named <0xNN> for each byte that no other token covers.
"""

import re

from tokenizers import Tokenizer as Encoder
from tokenizers import decoders

from argosy.domain.errors import ArgosyError, Reason

INCOMPLETE = "\ufffd"
"""What bytes that are no character, or not yet one, decode to."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_of_character() -> dict[str, int]:
    """GPT-2's spelling: printable Latin-1 stands for itself, other bytes for U+0100 and up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    spelt = {chr(byte): byte for byte in printable}
    return spelt | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF = byte_of_character()


class TokenBytes(dict[int, bytes]):
    """Bytes by token id, as they are in the middle of a text; special tokens are their names.

    Entries are made when they are first asked for, one per token of the vocabulary at most.
    Raises NOT_READY for a decoder whose tokens depend on their neighbours.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if isinstance(encoder.decoder, decoders.BPEDecoder | decoders.CTC):
            raise ArgosyError(
                Reason.NOT_READY,
                f"tokenizer.json names the decoder {type(encoder.decoder).__name__}, whose text "
                "cannot be streamed token by token; serve a model with another tokenizer",
            )
        self._encoder = encoder
        self._before = encoder.encode("a", add_special_tokens=False).ids[-1:]
        self._text_before = encoder.decode(self._before, skip_special_tokens=False)

    def __missing__(self, token_id: int) -> bytes:
        name = self._encoder.id_to_token(token_id)
        if name is None:
            return b""  # engines pad vocabularies; decoders skip such ids as well
        self[token_id] = found = self._bytes_of(token_id, name)
        return found

    def first(self, token_id: int) -> bytes:
        """Bytes of a token at the beginning of a text, where some decoders drop a space."""
        text = self._encoder.decode([token_id], skip_special_tokens=False)
        return self[token_id] if INCOMPLETE in text else text.encode()

    def _bytes_of(self, token_id: int, name: str) -> bytes:
        text = self._text_in_the_middle(token_id)
        if INCOMPLETE not in text:
            return text.encode()
        if named := BYTE_TOKEN.search(name):
            return bytes([int(named[1], 16)])
        if all(character in BYTE_OF for character in name):
            return bytes(BYTE_OF[character] for character in name)
        return text.encode()

    def _text_in_the_middle(self, token_id: int) -> str:
        after = self._encoder.decode([*self._before, token_id], skip_special_tokens=False)
        if after.startswith(self._text_before):
            return after[len(self._text_before) :]
        return self._encoder.decode([token_id], skip_special_tokens=False)
