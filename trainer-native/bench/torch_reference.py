"""The same two training steps in PyTorch: the yardstick of `cargo xtask bench train`.

Prints one JSON object: seconds of CPU and wall time of one step, median, for
  P  pre-training, batch 32 x 256, every weight, AdamW
  L  LoRA r = 8 on the seven linear layers of each block, batch 6 x 256, AdamW
on the pocket model's shape. Usage: torch_reference.py --threads N --steps N --which P|L
"""

import argparse
import json
import os
import statistics
import time

# Spinning OpenMP threads make PyTorch several times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
import torch.nn as nn
import torch.nn.functional as F

WIDTH, LAYERS, HEADS, KV_HEADS, FF, VOCAB, POSITIONS = 256, 12, 8, 4, 768, 8192, 256
HEAD = WIDTH // HEADS


class Linear(nn.Module):
    """A linear layer, with an optional low-rank branch over a frozen weight."""

    def __init__(self, inputs, outputs, rank):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5, requires_grad=rank == 0)
        self.rank = rank
        if rank:
            self.a = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
            self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x):
        y = F.linear(x, self.weight)
        if self.rank:
            y = y + 2.0 * F.linear(F.linear(x, self.a), self.b)
        return y


def rotate(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.attn_norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.ffn_norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.q = Linear(WIDTH, WIDTH, rank)
        self.k = Linear(WIDTH, KV_HEADS * HEAD, rank)
        self.v = Linear(WIDTH, KV_HEADS * HEAD, rank)
        self.o = Linear(WIDTH, WIDTH, rank)
        self.gate = Linear(WIDTH, FF, rank)
        self.up = Linear(WIDTH, FF, rank)
        self.down = Linear(FF, WIDTH, rank)
        if rank:
            self.attn_norm.requires_grad_(False)
            self.ffn_norm.requires_grad_(False)

    def forward(self, x, cos, sin):
        rows, t, _ = x.shape
        normed = self.attn_norm(x)
        q = rotate(self.q(normed).view(rows, t, HEADS, HEAD).transpose(1, 2), cos, sin)
        k = rotate(self.k(normed).view(rows, t, KV_HEADS, HEAD).transpose(1, 2), cos, sin)
        v = self.v(normed).view(rows, t, KV_HEADS, HEAD).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(rows, t, WIDTH))
        normed = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Llama(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(VOCAB, WIDTH) * 0.02, requires_grad=rank == 0)
        self.blocks = nn.ModuleList(Block(rank) for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.norm.requires_grad_(rank == 0)
        angles = torch.outer(
            torch.arange(POSITIONS).float(), 10000.0 ** (-torch.arange(0, HEAD, 2).float() / HEAD)
        )
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embed)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--which", choices=["P", "L"], required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(7)
    rows, rank = (32, 0) if args.which == "P" else (6, 8)
    model = Llama(rank)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    tokens = torch.randint(0, VOCAB, (rows, POSITIONS + 1))
    cpu, wall = [], []
    for step in range(args.steps + 1):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        # The first step allocates and is left out.
        if step:
            cpu.append(time.process_time() - cpu_start)
            wall.append(time.perf_counter() - wall_start)
    print(
        json.dumps(
            {
                "engine": f"torch {torch.__version__}",
                "cpu_s": statistics.median(cpu),
                "wall_s": statistics.median(wall),
                "tokens": rows * POSITIONS,
            }
        )
    )


main()
