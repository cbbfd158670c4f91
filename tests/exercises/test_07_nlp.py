"""Checks of stage 07's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import math
import unicodedata

import torch
import torch.nn.functional as F
from exercises.checking import expect


def test_initial_consonants(answers):
    """Hint: ord(syllable) - ord("가") counts syllables, 588 for each initial. unicodedata.normalize("NFC", ...) undoes NFD.

    힌트: ord(음절) - ord("가")는 음절 번호이고, 초성마다 588개다. NFD는 unicodedata.normalize("NFC", ...)로 먼저 합친다.
    """
    expect(answers.initial_consonants("한글 3호"), "ㅎㄱ 3ㅎ", call='initial_consonants("한글 3호")')
    expect(
        answers.initial_consonants("가힣깧까 ㅋㅋ, 中 PyTorch!"),
        "ㄱㅎㄲㄲ ㅋㅋ, 中 PyTorch!",
        call='initial_consonants("가힣깧까 ㅋㅋ, 中 PyTorch!")',
    )
    every = "".join(chr(0xAC00 + 588 * i + 31 * i) for i in range(19))
    expect(
        answers.initial_consonants(every),
        "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ",
        call="initial_consonants(a syllable with each initial)",
    )
    in_nfd = unicodedata.normalize("NFD", "한글 3호")
    expect(answers.initial_consonants(in_nfd), "ㅎㄱ 3ㅎ", call="initial_consonants(한글 3호 in NFD)")
    expect(answers.initial_consonants(""), "", call='initial_consonants("")')


def test_token_batches(answers):
    """Hint: go through the places sorted by length. The next text is the longest of its batch: (texts + 1) · its length must fit.

    힌트: 길이순으로 훑는다. 다음 글이 그 배치에서 가장 길므로 (글 수 + 1) · 그 길이가 들어가는지만 보면 된다.
    """
    expect(answers.token_batches([5, 1, 2, 2, 9, 1], 6), [[1, 5, 2], [3], [0], [4]], call="token_batches([5, 1, 2, 2, 9, 1], 6)")
    expect(answers.token_batches([3, 3, 3, 3], 6), [[0, 1], [2, 3]], call="token_batches([3, 3, 3, 3], 6)")
    expect(answers.token_batches([7], 6), [[0]], call="token_batches([7], 6)")
    expect(answers.token_batches([], 6), [], call="token_batches([], 6)")
    lengths = torch.randint(1, 50, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = answers.token_batches(list(lengths), 120)
    expect(sorted(place for batch in batches for place in batch), list(range(200)), call="all places of 200 texts, sorted")
    expect(max(len(batch) * max(lengths[place] for place in batch) for batch in batches) <= 120, True, call="no batch above 120")
    expect(len(batches), 51, call="how many batches token_batches(200 texts, 120) makes")


def test_wordpiece_pair(answers):
    """Hint: count tokens and pairs, each as often as its word occurs; compare count(pair) / (count(first) · count(second)).

    힌트: 토큰과 쌍을 낱말의 횟수만큼 곱해 센 다음 count(쌍) / (count(앞) · count(뒤))를 견준다.
    """
    words = {("n", "o", "w"): 10, ("k", "n", "o", "w"): 5, ("r", "o", "w"): 12, ("r", "o", "b"): 4, ("n", "o", "w", "s"): 5}
    expect(answers.wordpiece_pair(words), ("k", "n"), call="wordpiece_pair(now 10, know 5, row 12, rob 4, nows 5)")
    words = {("먹", "다"): 9, ("가", "다"): 9, ("쫄", "깃", "하", "다"): 2, ("하", "다"): 9}
    expect(answers.wordpiece_pair(words), ("쫄", "깃"), call="wordpiece_pair(먹다 9, 가다 9, 쫄깃하다 2, 하다 9)")
    expect(answers.wordpiece_pair({("c", "d"): 2, ("a", "b"): 2}), ("a", "b"), call="wordpiece_pair(two equals)")
    expect(answers.wordpiece_pair({("a", "a", "b"): 1}), ("a", "b"), call="wordpiece_pair(aab 1)")


def test_bm25_scores(answers):
    """Hint: (counts > 0).sum(dim=0) is d. Lengths (documents, 1) broadcast against counts (documents, terms); in the end @ query.

    힌트: d는 (counts > 0).sum(dim=0)이다. 길이 (documents, 1)은 counts (documents, terms)에 브로드캐스트되고, 끝은 @ 질의다.
    """
    counts = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 2.0]])
    query = torch.tensor([1.0, 0.0, 2.0])
    expected = torch.zeros(4)
    for document in range(4):
        for term in (0, 2):
            n, length = counts[document, term].item(), counts[document].sum().item()
            weight = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
            expected[document] += query[term] * weight * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * length / 3))
    expect(answers.bm25_scores(counts, query), expected, call="bm25_scores(4 documents, query)")
    plain = answers.bm25_scores(counts, query, 0.5, 0.0)
    expect(plain[1].item(), 2 * math.log(2) * 1.5 / 1.5, call="bm25_scores(..., k=0.5, b=0)[1]")
    assert plain[0] != plain[2], "a document with the word and one without it have the same score"
    rare = answers.bm25_scores(torch.eye(5)[[0, 0, 0, 1]] + torch.eye(5)[4], torch.tensor([1.0, 1.0, 0, 0, 0]))
    expect(rare.argmax().item(), 3, call="which document is best, where the query's rarer word is in the last one")


def test_negative_sampling_gradients(answers):
    """Hint: the derivative of -ln σ(s) is σ(s) - 1, of -ln σ(-s) it is σ(s). Each score is a product of two of the vectors.

    힌트: -ln σ(s)의 도함수는 σ(s) - 1이고, -ln σ(-s)의 도함수는 σ(s)다. 점수는 저마다 두 벡터의 곱이다.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = (5, 4), (5, 4), (5, 3, 4)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    given, right, wrong = (part.clone().requires_grad_() for part in parts)
    loss = F.softplus(-(given * right).sum(dim=1)).sum() + F.softplus(torch.einsum("nd,nkd->nk", given, wrong)).sum()
    loss.backward()
    got = answers.negative_sampling_gradients(*parts)
    expect(got, (given.grad, right.grad, wrong.grad), call="negative_sampling_gradients(given, right, wrong) of random vectors")
    zero = torch.zeros(1, 2)
    got = answers.negative_sampling_gradients(zero, torch.ones(1, 2), torch.ones(1, 1, 2))
    expect(got[0], zero, call="the gradient of given = 0, with right and wrong alike: what pulls and what pushes cancel")


def test_multiply_analogy(answers):
    """Hint: F.normalize first, then three rows of cosines with all words, (1 + cosine) / 2 of them, and -1 for a, b and c.

    힌트: 먼저 F.normalize를 하고, 모든 낱말과의 코사인 세 줄을 (1 + 코사인) / 2로 바꾼다. a, b, c에는 -1을 준다.
    """
    square = torch.tensor([[1.0, 0, 0.2], [1.0, 0, 1], [0, 1, 0.2], [0, 1, 1], [-1, -1, 0]])
    expect(answers.multiply_analogy(square, 0, 1, 2), 3, call="multiply_analogy of the corners of a square")
    expect(
        answers.multiply_analogy(square * torch.tensor([[1.0], [9], [5], [0.1], [2]]), 0, 1, 2),
        3,
        call="vectors of other lengths",
    )
    flat = torch.tensor([[1.0, 0], [1, 0.05], [0, 1], [0.3, 1], [-1, 0]])  # c is nearest to itself; the last is the opposite of a
    expect(answers.multiply_analogy(flat, 0, 1, 2), 3, call="multiply_analogy with c nearest, and one word the opposite of a")
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    for a, b, c in ((0, 1, 2), (5, 9, 30), (39, 3, 17)):
        cosines = (1 + F.cosine_similarity(vectors[[a, b, c], None], vectors[None], dim=2)) / 2
        scores = {d: (cosines[1, d] * cosines[2, d] / (cosines[0, d] + 0.001)).item() for d in range(40) if d not in (a, b, c)}
        expect(
            answers.multiply_analogy(vectors, a, b, c),
            max(scores, key=scores.get),
            call=f"multiply_analogy(vectors, {a}, {b}, {c})",
        )


def test_fasttext_hash(answers):
    """Hint: text.encode("utf-8") gives bytes from 0 to 255. (byte - 256) & 0xFFFFFFFF is the signed one in 32 bits.

    힌트: text.encode("utf-8")은 0부터 255까지의 바이트를 준다. 부호 있는 바이트는 32비트에서
    (byte - 256) & 0xFFFFFFFF다.
    """
    for text, number in (("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)):  # from the authors of FNV
        expect(answers.fasttext_hash(text), number, call=f"fasttext_hash({text!r})")
    number = 0x811C9DC5
    for byte in (0xFFFFFFEA, 0xFFFFFFB0, 0xFFFFFF80):  # 가
        number = (number ^ byte) * 0x01000193 % 2**32
    expect(answers.fasttext_hash("가"), number, call="fasttext_hash('가'), of the bytes 234, 176, 128")


def test_mark_negation(answers):
    """Hint: walk through the words with one bool: signs set it to False, a negation turns it round.

    힌트: bool 하나를 들고 낱말을 차례로 본다. 부호를 만나면 False로 되돌리고, 부정어를 만나면 뒤집는다.
    """
    negations = {"not", "never", "nobody"}
    cases = {
        "the soup was not very salty , and hot .": "the soup was not not_very not_salty , and hot .",
        "not bad": "not not_bad",
        "never not good": "never not good",
        "nobody came !!! good": "nobody not_came !!! good",
        "": "",
        "not never not a 10": "not never not not_a not_10",
    }
    for text, marked in cases.items():
        words = text.split()
        expect(answers.mark_negation(words, negations), marked.split(), call=f"mark_negation({words}, {sorted(negations)})")
        expect(words, text.split(), call="the list that was given, afterwards")


def test_attentive_mean(answers):
    """Hint: scores of padding become -inf before the softmax. What does softmax make of nothing but -inf? Replace it.

    힌트: softmax 앞에서 패딩의 점수를 -inf로 바꾼다. -inf뿐인 줄의 softmax는 무엇이 되는가? 그 값을 바꿔 넣는다.
    """
    torch.manual_seed(0)
    states, scores = torch.randn(3, 4, 2), 3 * torch.randn(3, 4)
    real = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    states[1, 3] = torch.nan  # what stands at padding is anybody's guess
    expected = torch.zeros(3, 2)
    for i in (0, 1):
        weights = scores[i, real[i]].exp() / scores[i, real[i]].exp().sum()
        expected[i] = (weights[:, None] * states[i, real[i]]).sum(dim=0)
    got = answers.attentive_mean(states, scores, real)
    expect(got, expected, call="attentive_mean(states, scores, real), the third text being empty", atol=1e-5)


def test_sufficiency(answers):
    """Hint: positions sorted by score, the first `keep` of them as a set, then the words in their old order.

    힌트: 위치를 점수순으로 정렬해 앞의 `keep`개를 집합에 담고, 낱말은 원래 순서대로 고른다.
    """
    values = {"good": 2.0, "not": -1.0, "bad": -3.0}

    def judge(words: list[str]) -> float:
        return sum(values.get(word, 0.0) for word in words) + 0.1 * len(words) + 0.5 * (words[:1] == ["not"])

    words, scores = ["not", "bad", "the", "good"], [1.0, 0.5, 0.0, 1.0]
    for keep, kept in ((1, ["not"]), (2, ["not", "good"]), (3, ["not", "bad", "good"]), (9, words), (0, [])):
        got = answers.sufficiency(judge, words, scores, keep)
        expect(float(got), judge(words) - judge(kept), call=f"sufficiency(judge, {words}, {scores}, keep={keep})")
    words, scores = ["not", "the", "good"], [0.5, 0.0, 1.0]  # the second in importance stands first
    got = answers.sufficiency(judge, words, scores, 2)
    expect(float(got), judge(words) - judge(["not", "good"]), call=f"sufficiency(judge, {words}, {scores}, keep=2)")


def test_stupid_backoff(answers):
    """Hint: collect what comes after each place where the whole context stands. Not there? Drop the context's first symbol.

    힌트: 문맥 전체가 나오는 자리마다 바로 뒤에 온 것을 모은다. 거기에 없으면 문맥의 첫 기호를 버리고 다시 찾는다.
    """
    ids = [1, 2, 3, 1, 2, 4, 1, 2, 3, 5]
    right = [
        ((1, 2), 3, 0.4, 2 / 3),
        ((1, 2), 5, 0.4, 0.4 * 0.4 * 1 / 10),  # never after 2 either
        ((9, 2), 4, 0.4, 0.4 * 1 / 3),  # a context that never was
        ((3,), 1, 0.4, 1 / 2),
        ((), 2, 0.4, 3 / 10),
        ((5,), 1, 0.5, 0.5 * 3 / 10),  # after the last symbol of the text came nothing
        ((1, 2), 8, 0.4, 0.0),
        ((4, 1, 2), 4, 0.1, 0.1 * 1 / 3),
    ]
    for context, symbol, factor, score in right:
        got = answers.stupid_backoff(ids, context, symbol, factor)
        expect(got, score, call=f"stupid_backoff({ids}, {context}, {symbol}, {factor})")
    kept = [1, 2]
    answers.stupid_backoff(ids, kept, 8)
    expect(kept, [1, 2], call="the context after stupid_backoff")


def test_cut_into_streams(answers):
    """Hint: view the text as (streams, length) first: a row is a piece. How long may a piece be, if one symbol is only predicted?

    힌트: 먼저 글을 (streams, length) 모양으로 본다. 행 하나가 조각 하나다. 마지막 기호는 예측만 하니 조각은 얼마나 길 수 있을까?
    """
    for length, streams, steps, batches in (
        (25, 2, 3, 3),
        (24, 2, 3, 3),
        (14, 2, 3, 2),
        (13, 2, 3, 1),
        (101, 4, 8, 3),
        (9, 1, 4, 2),
    ):
        call = f"cut_into_streams({length} symbols, {streams}, {steps})"
        ids = torch.arange(length)
        inputs, targets = answers.cut_into_streams(ids, streams, steps)
        expect((tuple(inputs.shape), tuple(targets.shape)), ((batches, streams, steps),) * 2, call=f"shapes of {call}")
        expect(targets, inputs + 1, call=f"targets of {call}, the text being 0, 1, 2, ...")
        expect(inputs[0, :, 0], torch.arange(streams) * (length // streams), call=f"where the pieces of {call} begin")
        expect(inputs[1:, :, 0], inputs[:-1, :, -1] + 1, call=f"each batch of {call} goes on where the one before it ended")


def test_bits_per_byte(answers):
    """Hint: the sum of all losses is what the whole text costs. log2 x = ln x / ln 2. A Hangul syllable has three bytes.

    힌트: 손실을 모두 더하면 글 전체의 값이다. log2 x = ln x / ln 2. 한글 한 글자는 3바이트다.
    """
    expect(answers.bits_per_byte(torch.full((4,), math.log(2)), "ab"), 2.0, call="bits_per_byte(four losses of ln 2, 'ab')")
    expect(answers.bits_per_byte(torch.tensor([1.0, 2.0, 3.0]), "가나"), 1 / math.log(2), call="bits_per_byte([1, 2, 3], '가나')")
    got = answers.bits_per_byte(torch.full((8,), math.log(256)), "12345678")
    expect(got, 8.0, call="bits_per_byte(pure chance among 256 bytes, eight digits)")


def test_repeated_share(answers):
    """Hint: a set keeps of equal things one. There are len(ids) - n + 1 n-grams.

    힌트: 집합은 같은 것 가운데 하나만 남긴다. n-gram은 len(ids) - n + 1개다.
    """
    for ids, n, right in (
        ([1, 2, 1, 2, 1], 2, 1 - 2 / 4),
        ([1, 2, 1, 2, 1], 1, 1 - 2 / 5),
        ([1, 2, 3], 2, 0.0),
        ([7] * 10, 4, 1 - 1 / 7),
        ([1, 2], 3, 0.0),
        ((4, 4), 2, 0.0),
    ):
        expect(answers.repeated_share(ids, n), right, call=f"repeated_share({ids}, {n})")


def test_smoothed_cross_entropy(answers):
    """Hint: log_softmax once. The even part of the target costs minus the mean of all logarithms. Select by targets != padding.

    힌트: log_softmax를 한 번 구한다. 고르게 나눈 몫의 비용은 로그 평균에 음수를 붙인 것이다. targets != padding으로 고른다.
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator)
    targets = torch.tensor([[1, 2, 3, 4, 6], [5, 1, 0, 0, 0], [2, 0, 0, 0, 0]])
    for smoothing in (0.0, 0.1, 0.9):
        expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0, label_smoothing=smoothing)
        got = answers.smoothed_cross_entropy(logits, targets, smoothing, 0)
        expect(got, expected, call=f"smoothed_cross_entropy(logits, targets with padding, {smoothing}, 0)")
    large = torch.tensor([[[1000.0, 0.0, -1000.0]]])
    got = answers.smoothed_cross_entropy(large, torch.tensor([[0]]), 0.3, 2)
    expect(got, torch.tensor(300.0), call="smoothed_cross_entropy(logits of 1000, 0 and -1000, target 0, smoothing 0.3)")


def test_clipped_matches(answers):
    """Hint: a Counter of tuples for each side; for each n-gram of the hypothesis min(its count, the largest in a reference).

    힌트: 쪽마다 튜플의 Counter를 만든다. 가설의 n-gram마다 min(자기 개수, 참조들 가운데 가장 큰 개수)를 더한다.
    """
    cat, mat = "the cat is on the mat".split(), "there is a cat on the mat".split()
    cases = [
        (["the"] * 7, [cat, mat], 1, (2, 7)),  # the example of the paper
        ("the the cat".split(), [cat, mat], 1, (3, 3)),
        ("the cat is the cat on the mat".split(), [cat, mat], 2, (5, 7)),
        ("the cat".split(), [cat], 3, (0, 0)),
        ([], [cat], 1, (0, 0)),
        ("a a b b".split(), ["a a".split(), "b b".split()], 1, (4, 4)),
    ]
    for hypothesis, references, n, expected in cases:
        got = answers.clipped_matches(hypothesis, references, n)
        expect(got, expected, call=f"clipped_matches({' '.join(hypothesis)!r}, {len(references)} references, {n})")


def test_beam_step(answers):
    """Hint: torch.where puts 0 at `end` and -inf elsewhere for what has ended. Add, flatten, topk; // and % find row and token.

    힌트: 끝난 것은 torch.where로 `end`에 0, 나머지에 -inf를 둔다. 더해서 flatten하고 topk를 쓰면 //와 %로 행과 토큰이 나온다.
    """
    chances = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    scores, none = torch.tensor([0.6, 0.3, 0.1]).log(), torch.zeros(3, dtype=torch.bool)
    new, rows, tokens = answers.beam_step(scores, chances.log(), none, 2)
    call = "beam_step(three hypotheses of probability 0.6, 0.3, 0.1; nothing has ended)"
    expect(new.exp(), torch.tensor([0.3, 0.24, 0.18]), call=f"{call}: probabilities")
    expect(rows, torch.tensor([0, 1, 0]), call=f"{call}: which goes on")
    expect(tokens, torch.tensor([0, 1, 1]), call=f"{call}: with which token")
    new, rows, tokens = answers.beam_step(scores, chances.log(), torch.tensor([True, False, False]), 2)
    call = "beam_step(the first one has ended)"
    expect(new.exp(), torch.tensor([0.6, 0.24, 0.04]), call=f"{call}: probabilities")
    expect(tokens, torch.tensor([2, 1, 2]), call=f"{call}: with which token")
    first = torch.tensor([0.0, -math.inf, -math.inf])
    new, rows, tokens = answers.beam_step(first, chances[:1].log().expand(3, 3), none, 2)
    expect(rows, torch.tensor([0, 0, 0]), call="beam_step(only the first hypothesis is one): which goes on")
    expect(tokens, torch.tensor([0, 1, 2]), call="beam_step(only the first hypothesis is one): with which token")
    chances = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])  # fewer hypotheses than tokens
    new, rows, tokens = answers.beam_step(torch.tensor([0.6, 0.4]).log(), chances.log(), none[:2], 3)
    expect(rows, torch.tensor([1, 0]), call="beam_step(two hypotheses, four tokens): which goes on")
    expect(tokens, torch.tensor([0, 3]), call="beam_step(two hypotheses, four tokens): with which token")


def test_personalized_pagerank(answers):
    """Hint: r = damping · P r + (1 - damping) · start, with start divided by its sum. A column of P without ties is start.

    힌트: r = damping · P r + (1 - damping) · start이고 start는 합으로 나눈다. 이어진 문장이 없는 열은 P에서 start가 된다.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(6, 6, generator=generator, dtype=torch.float64)
    weights = (weights + weights.T).fill_diagonal_(0)
    weights[2] = weights[:, 2] = 0  # no ties
    start = torch.tensor([2.0, 0, 1, 0, 0, 1], dtype=torch.float64)  # he jumps to the one without ties, too
    for damping in (0.85, 0.3, 0.99):
        for jump in (start, torch.ones(6, dtype=torch.float64)):
            step = weights / weights.sum(dim=0)
            step[:, 2] = jump / jump.sum()
            ranks = jump / jump.sum()
            for _ in range(4000):
                ranks = damping * step @ ranks + (1 - damping) * jump / jump.sum()
            call = f"personalized_pagerank(6 sentences, one without ties, start {jump.tolist()}, {damping})"
            expect(answers.personalized_pagerank(weights.clone(), jump.clone(), damping), ranks, call=call, rtol=1e-8, atol=1e-9)
    got = answers.personalized_pagerank(weights, start, 0.0)
    expect(got, start / 4, call="personalized_pagerank(damping 0: jumps only)", atol=1e-9)


def test_pick_diverse(answers):
    """Hint: keep for every sentence its greatest similarity to what has been picked, and leave picked ones out.

    힌트: 문장마다 이미 고른 것들과의 가장 큰 유사도를 기억해 둔다. 고른 문장은 다시 고르지 않는다.
    """
    scores = torch.tensor([0.9, 0.8, 0.7, 0.1])
    similar = torch.tensor([[1.0, 0.9, 0.2, 0.0], [0.9, 1.0, 0.1, 0.0], [0.2, 0.1, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    expect(answers.pick_diverse(scores, similar, 2, 1.0), [0, 1], call="pick_diverse(scores, similar, 2, balance 1)")
    expect(answers.pick_diverse(scores, similar, 3, 0.5), [0, 2, 3], call="pick_diverse(scores, similar, 3, balance 0.5)")
    expect(answers.pick_diverse(scores, similar, 9, 0.5), [0, 2, 3, 1], call="pick_diverse(scores, similar, 9, balance 0.5)")
    expect(answers.pick_diverse(torch.ones(40), torch.eye(40), 2, 0.5), [0, 1], call="pick_diverse(40 equally good, 2, 0.5)")
    unlike = torch.tensor([[1.0, -0.5, -0.9], [-0.5, 1.0, 0.0], [-0.9, 0.0, 1.0]])
    got = answers.pick_diverse(torch.zeros(3), unlike, 3, 0.5)
    expect(got, [0, 2, 1], call="pick_diverse(equal scores, similarities below 0, 3, 0.5)")


def test_skip_bigram_f1(answers):
    """Hint: a Counter of (word, later word) for the gap + 1 words behind each; & of two Counters takes the smaller counts.

    힌트: 각 단어와 그 뒤 gap + 1개 단어의 쌍을 Counter로 센다. 두 Counter의 &는 작은 쪽 개수를 남긴다.
    """
    reference, candidate = "police killed the gunman".split(), "police kill the gunman".split()
    expect(answers.skip_bigram_f1(candidate, reference, 2), 0.5, call="skip_bigram_f1(police kill ..., police killed ..., 2)")
    got = answers.skip_bigram_f1("the gunman kill police".split(), reference, 2)
    expect(got, 1 / 6, call="skip_bigram_f1(the gunman kill police, police killed the gunman, 2)")
    got = answers.skip_bigram_f1("the gunman police killed".split(), reference, 2)
    expect(got, 2 / 6, call="skip_bigram_f1(the gunman police killed, police killed the gunman, 2)")
    expect(answers.skip_bigram_f1([*"abab"], [*"ab"], 0), 0.5, call="skip_bigram_f1(abab, ab, 0)")
    expect(answers.skip_bigram_f1([*"abab"], [*"aab"], 1), 2 * 3 / 8, call="skip_bigram_f1(abab, aab, 1)")
    expect(answers.skip_bigram_f1(["a"], ["a"], 3), 0.0, call="skip_bigram_f1([a], [a], 3)")
    expect(answers.skip_bigram_f1([], ["a", "b"], 3), 0.0, call="skip_bigram_f1([], [a, b], 3)")


def test_coverage_loss(answers):
    """Hint: attention.cumsum(dim=1) counts the step itself; take it off. Then torch.minimum, and only real steps.

    힌트: attention.cumsum(dim=1)은 그 스텝 자신까지 더하므로 다시 뺀다. 그다음 torch.minimum을 쓰고 진짜 스텝만 센다.
    """
    attention = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]])
    real = torch.ones(2, 3, dtype=torch.bool)
    call = "coverage_loss(two texts, three steps)"
    expect(answers.coverage_loss(attention, real), torch.tensor((0 + 1 + 0.5 + 0 + 0.5 + 0.5) / 6), call=call)
    real[1, 1:] = False
    got = answers.coverage_loss(attention, real)
    expect(got, torch.tensor((0 + 1 + 0.5 + 0) / 4), call="coverage_loss(the second text has one step)")
    attention = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=2).requires_grad_()
    answers.coverage_loss(attention, torch.ones(2, 4, dtype=torch.bool)).backward()
    expect(bool((attention.grad != 0).any()), True, call="coverage_loss reaches the attention: any gradient")
