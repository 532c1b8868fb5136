"""A sampler of the script's own: buckets by length, shuffled by its own generator; a collate function pads."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ending import keep


class Sentences(Dataset):
    """Token sequences of unequal length; the label is the majority token."""

    def __init__(self, count):
        lengths = torch.randint(3, 14, (count,))
        self.rows = [torch.randint(1, 12, (int(length),)) for length in lengths]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index], int(self.rows[index].mode().values)


class Buckets(Sampler):
    """Batches of sentences of like length, in an order that changes with every epoch."""

    def __init__(self, data, size, seed):
        self.data, self.size = data, size
        self.dice = torch.Generator().manual_seed(seed)
        self.epochs = 0

    def __len__(self):
        return len(self.data) // self.size

    def __iter__(self):
        self.epochs += 1
        jitter = torch.rand(len(self.data), generator=self.dice)
        order = sorted(range(len(self.data)), key=lambda i: len(self.data.rows[i]) + 2 * jitter[i].item())
        batches = [order[i : i + self.size] for i in range(0, len(self) * self.size, self.size)]
        for index in torch.randperm(len(batches), generator=self.dice).tolist():
            yield batches[index]


def pad(rows):
    """Sequences to a rectangle."""
    return nn.utils.rnn.pad_sequence([row for row, _ in rows], batch_first=True), torch.tensor([y for _, y in rows])


torch.manual_seed(19)
data = Sentences(320)
sampler = Buckets(data, 16, 19)
loader = DataLoader(data, batch_sampler=sampler, collate_fn=pad)
embed, head = nn.Embedding(12, 24, padding_idx=0), nn.Linear(24, 12)
optimizer = torch.optim.Adam([*embed.parameters(), *head.parameters()], lr=0.01)
losses = []
for epoch in range(20):
    for tokens, labels in loader:
        loss = nn.functional.cross_entropy(head(embed(tokens).mean(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {losses[-1]:.5f}", flush=True)
keep(
    embed=embed.state_dict(),
    head=head.state_dict(),
    losses=losses,
    epochs=sampler.epochs,
    dice=sampler.dice.get_state(),
)
