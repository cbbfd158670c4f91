"""Training loops of stage 06: each step starts from gradients of 0. Adam hardly notices where they add up; losses tell little."""

import pytest
from conftest import lesson
from torch import nn
from training_steps import check_gradients_do_not_add_up, numbers, pictures

from utils.datasets.opinions import vocabulary, write_opinions
from utils.networks.bert import Bert, BertConfig
from utils.wordpiece import WordPiece


def describe_opinions(module) -> None:
    tokenizer = WordPiece(vocabulary(), uncased=False)
    model = Bert(BertConfig(len(tokenizer.vocabulary), 8, 1, 2, 16, 64, dropout=0.0))
    module.train(model, tokenizer, write_opinions(600, 0), steps=3, lr=0.01, temperature=0.1, seed=0)


def fit_a_layer(module) -> None:
    layer, x = nn.Linear(3, 1), pictures(9, 3)
    module.descend(layer, lambda batch: layer(x[batch]).square().mean(), len(x), batch=4, steps=3, lr=0.01, seed=0)


TRAININGS = {
    "autoencoder": lambda m: m.train(m.Autoencoder(2, "dense", 0), pictures(9, 1, 28, 28), 3, 0.01, 0),
    "anomaly_detection": lambda m: m.train(m.Autoencoder(2, 0), pictures(9, 1, 28, 28), 3, 0.01, 0),
    "vae": lambda m: m.train(m.VAE(2, 0), pictures(9, 1, 28, 28), 1.0, 3, 0.01, 0),
    "mode_collapse": lambda m: m.estimate_distance(*pictures(2, 40, 1), steps=3, seed=0),
    "diffusion": lambda m: m.train(pictures(9, 1, 14, 14), m.signal_left(10), m.UNet(8), 3, 0.01, 0),
    "guided_diffusion": lambda m: m.train(pictures(9, 1, 14, 14), numbers(9, 9), m.signal_left(10), m.UNet(8), 3, 0.1, 0.01, 0),
    "attention_seq2seq": lambda m: m.train(m.Writer(8, "dot", 0), m.spoken_numbers(9, 1, 4, 0), 3, 0.01, 0),
    "multi_head_attention": lambda m: m.train(m.Operator(2, 2, 8, 0), 3, 0.01, 0),
    "transformer": lambda m: m.predict_noise(inverted=False, steps=3, seed=0),
    "positions": lambda m: m.train(m.Reader("waves", 0, width=16), 8, 3, 0, 3, 0.01, 0),
    "date_translation": lambda m: m.train(m.DateReader(9, 8, 2, 1, 0), (numbers(9, 9, 6), numbers(11, 9, 10)), 3, 0.01, 0),
    "skip_connections": lambda m: m.train(m.Network(10, True), (pictures(9, 3, 32, 32), numbers(10, 9)), 3, 0.1, 0),
    "bert": lambda m: m.pretrain(m.Encoder(20, 8, 1, 4, 0), 5 + numbers(15, 70, 6), 3, 0.5, 0.01, 0),
    "sentence_embeddings": describe_opinions,
    "bert_finetuning": fit_a_layer,
    "gpt": lambda m: m.train(m.GPT(11, 8, 8, 1, 2, 0), numbers(11, 100), 3, 4, 0.01, 0),
    "llama": lambda m: m.train(m.Decoder(11, 4, 0), numbers(11, 200), 3, 0.01, 0),
    "quantization": lambda m: m.train((pictures(9, 16), numbers(10, 9)), 3, 0.01, 0),
    "vit_or_cnn": lambda m: m.train(m.build("CNN", 0), (pictures(9, 3, 32, 32), numbers(10, 9)), 3, 0.01, 0),
    "contrastive_learning": lambda m: m.pretrain(pictures(128, 3, 32, 32), ("crop",), 3, 0.2, 0),
    "contrastive_learning, with labels": lambda m: m.supervise((pictures(9, 3, 32, 32), numbers(10, 9)), 3, 0),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_gradients_do_not_add_up(name):
    module = lesson(f"06_advanced/{name.partition(',')[0]}")
    check_gradients_do_not_add_up(lambda: TRAININGS[name](module))
