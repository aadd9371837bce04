"""Networks as users write them."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A residual block with one in-place ReLU used twice, an in-place sum and a functional ReLU."""

    def __init__(self, before, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.down = None
        if stride > 1 or before != width:
            self.down = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.down is None else self.down(x)
        return F.relu(y, inplace=True)


class UserNet(nn.Module):
    """Functional pools and ReLUs, residual blocks, a concatenation, adaptive pooling, a view, dropout."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, 1, 1)
        self.bn = nn.BatchNorm2d(6)
        self.block1 = Block(6, 6)
        self.block2 = Block(6, 8, 2)
        self.side = nn.Conv2d(8, 4, 1)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.bn(self.stem((x - 0.2) / 0.5))), 2)
        x = self.block2(self.block1(x))
        x = torch.cat([x, F.relu_(self.side(x))], 1)
        x = F.adaptive_avg_pool2d(x, (1, 1))
        x = x.view(x.size(0), -1)
        return self.fc(self.drop(x))


class Dense(nn.Module):
    """Layers norms cannot be folded into: DenseNet's order, norm before convolution."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = self.conv1(x).relu()
        y = self.conv2(F.relu(self.bn(x)))
        x = torch.cat((x, F.relu(y)), dim=1)
        return self.fc(F.avg_pool2d(x, 2).flatten(1))


class Mlp(nn.Module):
    """Functional ReLUs between dense layers."""

    def __init__(self, widths=(16, 30, 30, 10), bias=True):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=bias) for a, b in pairwise(widths))

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def made(kind, seed=0, **how):
    """A network with weights, and norms that do something, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = kind(**how)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.5)
                nn.init.uniform_(module.running_mean, -0.3, 0.3)
                nn.init.uniform_(module.running_var, 0.3, 1.2)
    return net.eval()


def images(count=40, shape=(1, 8, 8), seed=0, dtype=torch.float32):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
