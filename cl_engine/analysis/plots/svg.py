"""Pictures as parts of a page: small, in the page's own colours, with the shapes of letters shared."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from cl_engine.analysis.plots.style import DARK, rendered

NO_SIGN = re.compile(r'<path id="(DejaVuSans[^"]*)"(?! d=)[^>]*/>')  # a space: nothing to draw
LETTER = re.compile(r'<path id="(DejaVuSans[^"]*)" d="([^"]*)"([^>]*)/>')
NUMBER = re.compile(r"-?\d+\.\d+")


def inline(fig: Figure, title: str, letters: dict[str, str]) -> str:
    """Return a picture as an ``<svg>`` element to stand in a page.

    Its colours are the page's (CSS variables, see `variables`), so that it suits light and dark. Its letters are put
    into ``letters``, which all pictures of a page share and the page holds once (`shared`). Other names inside are made
    unique by the title. All text is drawn as paths: no name from a log is in it.
    """
    text = rendered(fig).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    letters.update({_letter(name): _defined(name, d, rest) for name, d, rest in LETTER.findall(text)})
    blank = set(NO_SIGN.findall(text))
    text = NO_SIGN.sub("", LETTER.sub("", text))
    text = re.sub(r'<use xlink:href="#([^"]*)"[^>]*/>', lambda m: "" if m[1] in blank else m[0], text)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    text = re.sub(r'href="#(DejaVuSans[^"]*)"', lambda m: f'href="#{_letter(m[1])}"', text)
    text = re.sub(r'(<use [^>]*)transform="translate\(([-\d.]+) 0\)"', r'\1x="\2"', text)
    salt = re.sub(r"\W+", "-", title)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) - letters.keys()
    text = re.sub(r'\sid="([^"]+)"', lambda m: f' id="{salt}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(
        r'(href="#|url\(#)([^")]+)', lambda m: f"{m[1]}{salt}-{m[2]}" if m[2] in used else f"{m[1]}{m[2]}", text
    )
    text = re.sub(r'style="([^"]*)"', lambda m: f'style="{_own_colours(m[1])}"', text)
    text = re.sub(r'(\s(?:d|x|y))="([^"]*)"', lambda m: f'{m[1]}="{_short(m[2], 1)}"', text)
    text = re.sub(r'(transform|viewBox)="([^"]*)"', lambda m: f'{m[1]}="{_rounded(m[2], 3)}"', text)
    text = re.sub(r'\swidth="[^"]+" height="[^"]+"', "", text, count=1)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    return re.sub(r">\s+<", "><", re.sub(r"[ \n]+", " ", text))


def shared(letters: dict[str, str]) -> str:
    """Return the hidden element that holds the letters of all pictures of a page."""
    held = "".join(letters[name] for name in sorted(letters))
    return f'<svg class="letters" aria-hidden="true" width="0" height="0"><defs>{held}</defs></svg>'


def variables(dark: bool = False) -> str:
    """Return the CSS declarations of the colours of pictures, for a light or a dark page."""
    return " ".join(f"{_variable(light)}: {DARK[light] if dark else light};" for light in DARK)


def _own_colours(style: str) -> str:
    return re.sub(
        r"#[0-9a-f]{6}\b", lambda m: f"var({_variable(m[0])})" if m[0].upper() in DARK else m[0], style
    ).replace("; ", ";")


def _variable(light: str) -> str:
    return f"--p{light[1:].lower()}"


def _letter(name: str) -> str:
    """Return a short name for a letter: there are thousands of references to it."""
    return name.replace("DejaVuSans", "L")


def _defined(name: str, path: str, rest: str) -> str:
    return f'<path id="{_letter(name)}" d="{_short(path, 1)}"{rest}/>'


def _short(path: str, digits: int) -> str:
    """Return a path or a number with ``digits`` digits, and no space that is not needed."""
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", re.sub(r"\s+", " ", _rounded(path, digits))).strip()


def _rounded(text: str, digits: int) -> str:
    def number(found: re.Match[str]) -> str:
        short = f"{float(found[0]):.{digits}f}".rstrip("0").rstrip(".")
        return "0" if short == "-0" else short

    return NUMBER.sub(number, text)
