"""A Trainer object that holds everything: fit, epoch and step are methods, callbacks are objects in a list."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep


class Averages:
    """A callback with a memory."""

    def __init__(self):
        self.sum, self.count, self.rows = 0.0, 0, []

    def after_step(self, trainer, loss):
        """Collect."""
        self.sum += loss
        self.count += 1

    def after_epoch(self, trainer):
        """Note the mean and start again."""
        self.rows.append((trainer.epoch, self.sum / self.count))
        self.sum, self.count = 0.0, 0


class Trainer:
    """Knows the model, the optimizer, the data and where it is."""

    def __init__(self, model, data, rate):
        self.model, self.data = model, data
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.95)
        self.callbacks = [Averages()]
        self.epoch = self.global_step = 0

    def fit(self, epochs):
        """All epochs."""
        for self.epoch in range(epochs):
            self.run_epoch()
            self.schedule.step()
            for callback in self.callbacks:
                callback.after_epoch(self)
            print(f"epoch {self.epoch}: {self.callbacks[0].rows[-1][1]:.5f}", flush=True)

    def run_epoch(self):
        """All batches."""
        self.model.train()
        for batch in self.data:
            loss = self.step(*batch)
            for callback in self.callbacks:
                callback.after_step(self, loss)

    def step(self, inputs, labels):
        """One step."""
        loss = nn.functional.cross_entropy(self.model(inputs), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.global_step += 1
        return loss.item()


torch.manual_seed(10)
x = torch.randn(600, 14)
loader = DataLoader(TensorDataset(x, (x @ torch.randn(14, 5)).argmax(1)), batch_size=30, shuffle=True)
net = nn.Sequential(nn.Linear(14, 40), nn.ReLU(), nn.Dropout(0.15), nn.Linear(40, 5))
trainer = Trainer(net, loader, 3e-3)
trainer.fit(24)
keep(
    model=net.state_dict(),
    optimizer=trainer.optimizer.state_dict(),
    schedule=trainer.schedule.state_dict(),
    rows=[list(row) for row in trainer.callbacks[0].rows],
    step=trainer.global_step,
)
