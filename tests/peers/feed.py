# SPDX-License-Identifier: MIT
"""feed.py -- the batches that every trainer gets, and when each was asked for.

    feed = Feed(x, batch, tokens, lead)     x (N,D) numpy, float32 or float16, or uint16 that holds bfloat16

Passes over x in the same random order for every trainer, a pass after the other, as torch float32 (batch,D). `lead`
first batches are given twice: some trainers look at that many to learn a scale before the first step. stamps holds the
time of every request after those; two in a row are a whole training step apart.
"""
import time

import numpy as np
import torch


class Feed:
    def __init__(self, x, batch, tokens, lead=0, seed=0):
        self.x, self.batch, self.tokens, self.lead = x, batch, tokens, lead
        self.steps = tokens // batch
        self.order = np.random.default_rng(seed).permutation(len(x))
        self.at = 0
        self.stamps = []

    def __iter__(self):
        return self

    def __next__(self):
        if self.lead == 0:
            self.stamps.append(time.perf_counter())
        at = np.arange(self.at, self.at + self.batch) % len(self.x)
        self.at += self.batch
        if self.lead > 0:
            self.lead -= 1
            if self.lead == 0:
                self.at = 0
        return as_float(self.x[self.order[at]])


def as_float(x):
    """A copy in float32, as torch has it."""
    if x.dtype == np.uint16:
        return torch.from_numpy(np.array(x).view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(np.array(x, dtype=np.float32))
