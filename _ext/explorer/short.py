"""Scripts and styles without what only a reader needs: notes, and spaces that mean nothing."""

import re

# In this order: what goes, texts, templates and braces, regular expressions (division has spaces
# around it), the zero of 0.5, words, and all else.
TOKEN = re.compile(
    r"(?P<gap>(?:\s|/\*.*?\*/|//[^\n]*)+)|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
    r"|(?P<template>`)|/(?=[^\s*/])(?:\\.|[^/\\\n])+/\w*"
    r"|(?P<zero>(?<![\w.])0(?=\.\d))|[\w$]+|.",
    re.DOTALL,
)
TEMPLATE = re.compile(r"(?:\\.|\$(?!\{)|[^`$\\])*(?:`|\$\{)", re.DOTALL)


def _keep(gap: str, before: str, after: str) -> str:
    """Return what must be left of a gap between two signs."""
    if re.fullmatch(r"[\w$]{2}|\+\+|--", before + after):
        return "\n" if "\n" in gap else " "
    # A line that ends here may be a statement that ends here.
    ends = "\n" in gap and before not in ";{,([=&|?:+*/<>" and after not in ".,)]};:?&|=*+<>"
    return "\n" if ends else ""


def script(text: str) -> str:
    """Return JavaScript, whose texts and templates stay, but for the indentation of lines."""
    out, position, gap = [""], 0, ""
    # Of each bracket that is open: its sign, and whether the last statement in it began by const.
    inside = [["", False]]
    while position < len(text):
        found = TOKEN.match(text, position)
        token, kind, position = found[0], found.lastgroup, found.end()
        if kind in ("gap", "zero"):
            gap = token if kind == "gap" else gap
            continue
        if token == "}" and out[-1] == ";":
            out.pop()
        if out[-1] in ("", ";", "{", "}"):
            again = token == "const" and out[-1] == ";" and inside[-1][1]
            inside[-1][1] = token == "const"
            if again:
                out[-1], gap = ",", ""
                position = TOKEN.match(text, position).end()  # the space after it
                continue
        out.append((_keep(gap, out[-1][-1:], token[0]) if gap else "") + token)
        gap = ""
        if token in ("(", "[", "{"):
            inside.append([token, False])
        closes = token in (")", "]", "}") and inside.pop()[0]
        if kind == "template" or closes == "${":
            found = TEMPLATE.match(text, position)
            position = found.end()
            out.append(re.sub(r"\n[ \t]+", "\n", found[0]))
            if found[0].endswith("{"):
                inside.append(["${", False])
    return "".join(out)


def style(text: str) -> str:
    """Return a style sheet: a colon has no space after it but in a declaration."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r" ?([{};,]) ?|(?<=:) ", r"\1", text).replace(";}", "}").strip()
