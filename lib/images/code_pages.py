"""The code page of file names that do not say theirs: the one in which they look like names.

Names are too short for what guesses the encoding of texts by the frequency of letters. What tells
code pages apart in a few letters is what wrong ones make of them: signs among letters, scripts
mixed in a word, capitals within it, characters that a language hardly uses.
"""

import re
import unicodedata
from collections.abc import Sequence

CODE_PAGES = (
    *("cp437", "cp850", "cp1252", "cp866", "cp1251", "cp932", "gbk", "euc_kr", "big5"),
    *("cp1250", "cp852", "mac_roman", "koi8_r", "cp1254", "cp1253"),
)
_JUDGES = 200  # names, spread over all
_SIGN, _MIXED, _CAPITAL = 4.0, 3.0, 3.0
_USUAL = set("éèêëàâäáãåçîïíìôöóòõûüúùñßæøœÉÈÀÁÂÄÇÖÓÜÚÅØÑÍ")
_USUAL_CYRILLIC = set("оеаинтсрвлкмдпуяы")
_VOWELS = set("аеиоуыэюяёіїє")
_CYRILLIC = set("бгжзйфхцчшщъьэюёіїєґ")
_PUNCTUATION = set("’‘“”„–—…«»·°ºª№½¼¾£€×²¿¡")
_CENTRAL = set("ąćęłńśźżĄĆĘŁŃŚŹŻčďěňřšťůýžČĎĚŇŘŠŤŮŽľĺőűŐŰășțşţğıİĞŞ")
_TURKISH = set("çğıöşüâîûÇĞİÖŞÜÂÎÛ")
_ICELANDIC = set("ðþýÐÞÝ")  # where cp1254 has the letters of Turkish
# Letters of Greek that are hardly used, and those that one of several syllables has in a word.
_RARE_GREEK, _STRESSED = set("ΐΰϊϋ"), set("άέήίόύώΐΰ")
_LAST_ALONE = set("ςךםןףץةى")  # forms of letters at the end of a word
_LEVEL_ONE = {"gbk": (0xB0, 0xD7), "cp932": (0x88, 0x97), "big5": (0xA4, 0xC6)}  # first bytes
_LEVEL_TWO = {"gbk": (0xD8, 0xF7), "cp932": (0x98, 0xEA), "big5": (0xC9, 0xF9)}
# Of a Hangul syllable: doubled and rare beginnings, compound vowels, and the usual ends.
_RARE_STARTS, _RARE_VOWELS = {1, 4, 8, 10, 13}, {3, 7, 10, 15, 17, 19}
_USUAL_ENDS = {0, 1, 4, 8, 16, 17, 19, 21}


def code_page(
    names: Sequence[bytes], pages: Sequence[str] = CODE_PAGES, margin: float = 0.0
) -> str:
    """The page that names share; the first, which zip prescribes, where none reads them all.

    The first also stands where another is less unlike names by no more than `margin`.
    """
    costs, whole = {}, b"\n".join(names)
    for page in pages:
        try:
            decoded = whole.decode(page).split("\n")
        except UnicodeDecodeError:
            continue
        costs[page] = sum(_cost(name, page) for name in decoded[:: -(-len(decoded) // _JUDGES)])
    # Of equal ones min gives that which came first.
    return min(costs, key=lambda page: costs[page] + margin * (page != pages[0]), default=pages[0])


def _cost(name: str, page: str) -> float:
    """How unlike a name it looks; a usual letter beyond ASCII costs about a half for each byte."""
    cost = 0.0
    for word in re.findall(r"[^\W\d_]+|[^\x00-\x7f]", name):
        if word.isascii():
            continue
        kinds = [_kind(letter) for letter in word]
        mixed = {*kinds} - {"SIGN"}
        cost += _MIXED * max(0, len(mixed - ({"KANA"} if "CJK" in mixed else set())) - 1)
        if mixed == {"LATIN"} and len(word) > 2 and not any(map(str.isascii, word)):
            cost += len(word) / 2
        cost += _MIXED * sum(letter in _LAST_ALONE for letter in word[:-1])
        if mixed == {"GREEK"} and len(word) > 3 and word[1:].islower():
            cost += _MIXED * _STRESSED.isdisjoint(word)
        if mixed == {"CYRILLIC"} and len(word) > 2:
            cost += _MIXED * _VOWELS.isdisjoint(word.lower())
        small = any(letter.islower() for letter in word)
        cost += _CAPITAL * sum(small and letter.isupper() for letter in word[1:])
        cost += sum(
            _letter_cost(letter, kind, page)
            for letter, kind in zip(word, kinds, strict=True)
            if not letter.isascii()
        )
    return cost


def _kind(letter: str) -> str:
    if not letter.isalpha():
        return "SIGN"
    first = unicodedata.name(letter, "SIGN").split()[0]
    return "KANA" if first in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else first


def _letter_cost(letter: str, kind: str, page: str) -> float:
    if kind == "LATIN":
        if page == "cp1254" and letter not in _TURKISH:
            return _SIGN
        if page == "cp1252" and letter in _ICELANDIC:
            return 1.3
        return 0.5 if letter in _USUAL else 0.7 if letter in _CENTRAL else 2.5
    if kind == "CYRILLIC":
        small = letter.lower()
        return 0.35 if small in _USUAL_CYRILLIC else 0.6 if small in _CYRILLIC else 2.0
    if kind == "GREEK":
        return 2.0 if letter in _RARE_GREEK else 0.4
    if kind in ("HEBREW", "ARABIC"):
        return 0.4
    if kind == "KANA":
        return 0.5 if page == "cp932" else 3.0
    if kind == "HANGUL" and "가" <= letter <= "힣":
        syllable = ord(letter) - ord("가")
        start, vowel, end = syllable // 588, syllable // 28 % 21, syllable % 28
        rare = (start in _RARE_STARTS) + (vowel in _RARE_VOWELS) + (end not in _USUAL_ENDS)
        return 0.6 + 0.5 * rare
    if kind == "CJK":
        lead, trail = letter.encode(page)
        for cost, levels in ((0.8, _LEVEL_ONE), (2.5, _LEVEL_TWO)):
            first, last = levels.get(page, (1, 0))
            if first <= lead <= last and (page != "gbk" or trail >= 0xA1):
                return cost
        return _SIGN
    if kind == "HALFWIDTH":  # of Japanese syllables
        return 1.2
    wide = unicodedata.east_asian_width(letter) in "FW" and unicodedata.category(letter)[0] in "NP"
    return 1.0 if wide or letter in _PUNCTUATION else _SIGN
