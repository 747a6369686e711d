"""Describe why a file or a request body is not valid YAML, JSON or UTF-8, and what to do."""

from __future__ import annotations

import codecs
import re

import yaml

_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP = b"\x1f\x8b"
# An escape for half a character, not followed or preceded by the other half.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
# How PyYAML names a problem, and what to tell a user.
_PROBLEMS = (
    (re.compile("^but found another document"), "the file contains more than one document. Remove "
     "the line `---` and what follows it"),
    (re.compile("^could not determine a constructor for the tag 'tag:yaml.org,2002:value'"),
     "the value `=` is not supported. Put it in quotes"),
    (re.compile("^could not determine a constructor for the tag ('.*')"),
     r"the tag \1 is not supported. Remove it"),
    (re.compile("^found unhashable key"), "a key is a list or a mapping. Use text as key"),
    (re.compile("^found character '\\\\t'"), "a tab cannot start a value. Indent with spaces"),
    (re.compile("^expected <block end>"), "the indentation is wrong, or a list and a mapping are mixed. "
     "Correct the indentation"),
    (re.compile("^could not find expected ':'"), "a `:` after a key is missing. Correct this line or the "
     "line before it"),
    (re.compile("^found character ('.')"), r"the character \1 cannot start a value. Put the value "
     "in quotes"),
    (re.compile("'<stream end>'|unexpected end of stream"), "the file ends inside a value. "
     "Close the bracket or quote"),
    (re.compile("^mapping values are not allowed here"), "unexpected `:`. Put a value with `: ` in quotes, "
     "or correct the indentation"),
)  # fmt: skip


def yaml_problem(error: Exception) -> str:
    """Return what is wrong with a YAML text and what to do, without the place."""
    if isinstance(error, RecursionError):
        return "lists or mappings are nested too deeply. Reduce the nesting."
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character #x{error.character:04x} is not allowed. Remove it."
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"invalid value: {' '.join(str(error).split())[:200]}. Correct the YAML."
    problem = str(error.problem)
    for pattern, text in _PROBLEMS:
        if match := pattern.search(problem):
            return f"{match.expand(text)[:200]}."
    return f"{problem[:200]}. Correct the YAML."


def json_problem(body: bytes, error: Exception) -> str:
    """Return what is wrong with a JSON text."""
    if not body.strip():
        return "the text is empty"
    if body.startswith(_GZIP):
        return "the text is compressed with gzip; send it uncompressed"
    if body.startswith(_BOMS):
        return "the text begins with a byte order mark; send UTF-8 without it"
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    if half := _HALF.search(body):
        return f"{half[0].decode()} is half of a surrogate pair; send complete characters"
    return str(error)[:120]


def encoding_problem(start: bytes) -> str:
    """Return why a text that begins with `start` is not UTF-8, and what to do."""
    what = "UTF-16" if start.startswith(_UTF16) else "not UTF-8"
    return f"the text is {what}. Save the file as UTF-8."
