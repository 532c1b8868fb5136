"""An evolution strategy in NumPy: a population of objects, a heap of the best, tournaments by random.choice."""

import heapq
import random

import numpy as np

from ending import keep

GOAL = np.sin(np.linspace(0, 6, 24))


class Creature:
    """A vector with a fitness and an age."""

    __slots__ = ("age", "fitness", "genes")

    def __init__(self, genes):
        self.genes, self.age = genes, 0
        self.fitness = -float(((genes - GOAL) ** 2).sum())

    def child(self, other, spread):
        """Mixed and mutated."""
        mask = np.random.random(len(self.genes)) < 0.5
        return Creature(np.where(mask, self.genes, other.genes) + np.random.normal(0, spread, len(self.genes)))


random.seed(49)
np.random.seed(49)
crowd = [Creature(np.random.normal(size=24)) for _ in range(40)]
best, spread, generation = [], 0.3, 0
while generation < 1500 and (not best or best[-1][0] < -1e-5):
    children = []
    for _ in range(20):
        mother, father = (max(random.sample(crowd, 3), key=lambda one: one.fitness) for _ in range(2))
        children.append(mother.child(father, spread))
    for creature in crowd:
        creature.age += 1
    crowd = heapq.nlargest(40, crowd + children, key=lambda one: (one.fitness, -one.age))
    generation += 1
    spread *= 0.998
    heapq.heappush(best, (crowd[0].fitness, generation))
    if len(best) > 10:
        heapq.heappop(best)
    if generation % 250 == 0:
        print(f"generation {generation}: {crowd[0].fitness:.6f}", flush=True)
keep(
    crowd=np.stack([creature.genes for creature in crowd]),
    ages=[creature.age for creature in crowd],
    best=sorted(best),
    spread=spread,
    generation=generation,
)
