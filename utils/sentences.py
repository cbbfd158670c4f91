"""Sentences and words: where a text in English or Korean is cut.

split_sentences('Mr. Kim ran 3.14 km. "It was hot. I walked," he said.')
# ["Mr. Kim ran 3.14 km.", '"It was hot. I walked," he said.']
"""

import re

ABBREVIATIONS = set("mr mrs ms dr prof st gen vs inc etc e.g i.e".split())
PARTICLE = re.compile(r"([가-힣]{2,}?)(에서|에게|은|는|이|가|을|를|의|에|로|와|과)?")
END = re.compile(r"[.!?]+[\"'”’)]*(?=\s|$)")


def split_sentences(text: str) -> list[str]:
    """Cut each line at . ! ? before a space, but neither after abbreviations and initials nor within a quotation.

    In Korean this keeps `"문제없다. 곧 고친다."라고 말했다.` whole: the first full stop lies within, the second before no
    space. Texts without full stops are not cut at all. Where a line's quotation marks do not come in pairs, nothing is known of
    what lies within, and they are ignored.
    """
    sentences = []
    for line in text.splitlines():
        start, paired = 0, line.count('"') % 2 == 0
        for end in END.finditer(line):
            word = line[start : end.start()].rpartition(" ")[2].strip("\"'(")
            short = end.group() == "." and (word.lower() in ABBREVIATIONS or re.fullmatch(r"[A-Z](\.[A-Z])*", word))
            within = paired and line[start : end.end()].count('"') % 2
            if not short and not within:
                sentences.append(line[start : end.end()].strip())
                start = end.end()
        sentences.append(line[start:].strip())
    return [sentence for sentence in sentences if sentence]


def split_words(text: str) -> list[str]:
    """Cut into words, numbers and signs, and Korean particles off the words: 한지우는 3.5% → 한지우, 는, 3.5, %.

    Only by what the end looks like: of 사람이 and 높이 the second loses an 이 that is no particle.
    """
    found = []
    for word in re.findall(r"\d+(?:\.\d+)?|[A-Za-z]+|[가-힣]+|[^\w\s]", text):
        cut = PARTICLE.fullmatch(word)
        found += [part for part in cut.groups() if part] if cut else [word]
    return found
