"""Between text and tokens: encoding, chat templates, and decoding as tokens stream in.

Real models bring their Hugging Face files. The `sim` engine has a vocabulary of its
own (bytes and a few words), so that all of Argosy runs without any model.
"""

from argosy.engine.text.chat_template import ChatOptions
from argosy.engine.text.model_folder import SIM, load
from argosy.engine.text.sim_vocabulary import SIM_WORDS, sim_tokenizer
from argosy.engine.text.stream import TextStream, overlap
from argosy.engine.text.tokenizer import Tokenizer

__all__ = [
    "SIM",
    "SIM_WORDS",
    "ChatOptions",
    "TextStream",
    "Tokenizer",
    "load",
    "overlap",
    "sim_tokenizer",
]
