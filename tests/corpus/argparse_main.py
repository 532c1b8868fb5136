"""The usual form of a script: argparse, logging, main(), functions that pass everything along."""

import argparse
import logging
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep

log = logging.getLogger("train")


def parse():
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=37)
    parser.add_argument("--log-interval", type=int, default=10)
    return parser.parse_args()


def train(args, model, device, loader, optimizer, epoch):
    """One epoch, as in a thousand examples."""
    model.train()
    for batch_index, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = nn.functional.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        if batch_index % args.log_interval == 0:
            log.info("epoch %d [%d/%d] loss %.6f", epoch, batch_index, len(loader), loss.item())


@torch.no_grad()
def test(model, device, loader):
    """Loss and hits over the test set."""
    model.eval()
    loss, hits = 0.0, 0
    for data, target in loader:
        output = model(data.to(device))
        loss += nn.functional.nll_loss(output, target, reduction="sum").item()
        hits += output.argmax(1).eq(target).sum().item()
    return loss / len(loader.dataset), hits


def main():
    """All of it."""
    args = parse()
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(768, 16)
    y = (x @ torch.randn(16, 10)).argmax(1)
    train_loader = DataLoader(TensorDataset(x[:640], y[:640]), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(x[640:], y[640:]), batch_size=64)
    layers = [nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.25), nn.Linear(64, 10), nn.LogSoftmax(1)]
    model = nn.Sequential(*layers).to(device)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=args.lr * 100)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)
    results = []
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        results.append(test(model, device, test_loader))
        scheduler.step()
    keep(model=model.state_dict(), optimizer=optimizer.state_dict(), results=[list(row) for row in results])


if __name__ == "__main__":
    main()
