"""Pictures turned, cropped and erased by NumPy's and Python's global random streams; a small convolution learns."""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ending import keep

random.seed(24)
np.random.seed(24)
torch.manual_seed(24)


class Pictures(Dataset):
    """10 × 10 pixels with a bright row or column."""

    def __init__(self, count):
        self.pixels = np.random.rand(count, 10, 10).astype(np.float32)
        self.labels = np.random.randint(0, 2, count)
        for picture, label in zip(self.pixels, self.labels):
            line = np.random.randint(10)
            picture[(line, slice(None)) if label else (slice(None), line)] += 1

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        picture = self.pixels[index].copy()
        if random.random() < 0.5:
            picture = picture[::-1, ::-1].copy()
        top, left = np.random.randint(0, 8, 2)
        picture[top : top + 2, left : left + 2] = 0
        picture *= random.uniform(0.8, 1.2)
        return torch.from_numpy(picture)[None], int(self.labels[index])


loader = DataLoader(Pictures(160), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
right = []
for epoch in range(22):
    hits = 0
    for pictures, labels in loader:
        scores = model(pictures)
        loss = nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        hits += int((scores.argmax(1) == labels).sum())
    right.append(hits)
    print(f"epoch {epoch}: {hits} right", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), right=right)
