"""A DQN on a small corridor: a deque of experience, random.sample, an ε that falls, a target network."""

import random
from collections import deque

import torch
from torch import nn

from ending import keep


class Corridor:
    """Walk right to the end of nine cells; wind pushes back now and then."""

    def __init__(self, length=9):
        self.length, self.at, self.clock = length, 0, 0

    def reset(self):
        """Back to the start."""
        self.at = self.clock = 0
        return self.view()

    def view(self):
        """One-hot place."""
        return torch.eye(self.length)[self.at]

    def step(self, action):
        """Move; (view, reward, is over)."""
        self.clock += 1
        move = 1 if action == 1 and random.random() > 0.1 else -1
        self.at = max(0, min(self.length - 1, self.at + move))
        won = self.at == self.length - 1
        return self.view(), 1.0 if won else -0.01, won or self.clock >= 40


random.seed(31)
torch.manual_seed(31)
world = Corridor()
network = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 2))
target = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 2))
target.load_state_dict(network.state_dict())
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
memory = deque(maxlen=400)
epsilon, steps, returns = 1.0, 0, []
for episode in range(32):
    state, over, gained = world.reset(), False, 0.0
    while not over:
        with torch.no_grad():
            action = random.randrange(2) if random.random() < epsilon else int(network(state).argmax())
        following, reward, over = world.step(action)
        memory.append((state, action, reward, following, float(over)))
        state, gained, steps = following, gained + reward, steps + 1
        if len(memory) >= 64:
            rows = random.sample(memory, 32)
            s, a, r, f, o = (torch.stack(c) if torch.is_tensor(c[0]) else torch.tensor(c) for c in zip(*rows))
            value = network(s).gather(1, a[:, None])[:, 0]
            with torch.no_grad():
                goal = r + 0.95 * (1 - o) * target(f).max(1).values
            loss = nn.functional.smooth_l1_loss(value, goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if steps % 100 == 0:
            target.load_state_dict(network.state_dict())
    epsilon = max(0.05, epsilon * 0.93)
    returns.append(gained)
    print(f"episode {episode}: {gained:.2f} after {steps} steps", flush=True)
keep(network=network.state_dict(), target=target.state_dict(), memory=[row[0] for row in memory], returns=returns)
