"""Networks that forecast a series: (batch, time, inputs) -> (batch, time, outputs).

Each answers at every step of time from what it has read up to that step, so that one window holds as many examples as steps, and
nothing of an answer may depend on later steps. 05_rnn/forecasting.py tests that, and compares them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Recurrent(nn.Module):
    """An LSTM or GRU with a linear head."""

    def __init__(self, kind: type[nn.RNNBase], inputs: int, hidden: int, outputs: int):
        """Args: kind is nn.LSTM, nn.GRU or nn.RNN; hidden is the size of its state."""
        super().__init__()
        self.rnn = kind(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])  # (batch, time, outputs)


class Convolutional(nn.Module):
    """A temporal convolutional network: dilated convolutions with residual connections (Bai, Kolter and Koltun, 2018).

    With kernels of 3 and dilations of 1, 2, 4 and 8 an answer sees 31 steps.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, causal: bool = True):
        """Args: causal=False lets each layer see as far ahead as back: a mistake to be shown."""
        super().__init__()
        self.causal = causal
        self.first = nn.Linear(inputs, hidden)
        self.layers = nn.ModuleList(nn.Conv1d(hidden, hidden, kernel_size=3, dilation=dilation) for dilation in (1, 2, 4, 8))
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).transpose(1, 2)  # (batch, hidden, time)
        for layer in self.layers:
            reach = 2 * layer.dilation[0]
            zeros = (reach, 0) if self.causal else (reach // 2, reach // 2)  # all of them in front: the present is read last
            x = x + F.relu(layer(F.pad(x, zeros)))
        return self.head(x.transpose(1, 2))  # (batch, time, outputs)


class Transformer(nn.Module):
    """A small Transformer with a causal mask and learned positions; reads windows of one length."""

    def __init__(self, inputs: int, hidden: int, outputs: int, window: int, heads: int = 4, layers: int = 1):
        """Args: window is the number of steps that are read; hidden is a multiple of heads."""
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.position = nn.Parameter(0.02 * torch.randn(window, hidden))
        layer = nn.TransformerEncoderLayer(hidden, heads, 2 * hidden, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(hidden, outputs)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(window))  # -inf above the diagonal

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.first(x) + self.position, mask=self.mask))  # (batch, time, outputs)
