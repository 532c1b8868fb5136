"""The engine of the script beside: a trainer that knows neither the model nor the data."""

import random

import torch


class Engine:
    """Runs epochs over samples that it shuffles by itself."""

    def __init__(self, model, optimizer, loss):
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.dice = random.Random(11)
        self.state = {"epoch": 0, "steps": 0, "losses": []}

    def run(self, samples, epochs):
        """Train; the mean loss of the last epoch."""
        for epoch in range(epochs):
            self.state["epoch"] = epoch
            order = list(range(len(samples)))
            self.dice.shuffle(order)
            mean = self.walk([samples[index] for index in order])
            self.state["losses"].append(mean)
            print(f"epoch {epoch}: {mean:.6f}", flush=True)
        return self.state["losses"][-1]

    def walk(self, samples, size=16):
        """One pass in batches."""
        total = 0.0
        for start in range(0, len(samples), size):
            inputs, targets = (torch.stack(part) for part in zip(*samples[start : start + size]))
            self.optimizer.zero_grad()
            loss = self.loss(self.model(inputs), targets)
            loss.backward()
            self.optimizer.step()
            self.state["steps"] += 1
            total += loss.item() * len(inputs)
        return total / len(samples)
