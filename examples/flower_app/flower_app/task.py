"""The model, the records and how to train on them. Flower is not mentioned here."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Two layers, for images of 8 x 8."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        return self.layers(x)


def load_data(partition, partitions, batch_size):
    """A client's share of scikit-learn's digits, in training and test batches."""
    digits = load_digits()
    x = torch.tensor(digits.data[partition::partitions] / 16, dtype=torch.float32)
    y = torch.tensor(digits.target[partition::partitions])
    cut = len(y) * 4 // 5
    train, test = TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:])
    return DataLoader(train, batch_size=batch_size), DataLoader(test, batch_size=batch_size)


def train(net, loader, epochs, learning_rate):
    """Train in place; the mean loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate)
    losses = []
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


def test(net, loader):
    """The mean loss and the accuracy."""
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for x, y in loader:
            out = net(x)
            loss += nn.functional.cross_entropy(out, y, reduction="sum").item()
            right += (out.argmax(1) == y).sum().item()
            count += len(y)
    return loss / count, right / count
