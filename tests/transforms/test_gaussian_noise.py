from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandGaussianNoise
from scipy.stats import kstest

from transforms.gaussian_noise import RandNoised, gaussian_noise


def image(*shape: int) -> MetaTensor:
    return MetaTensor(torch.full((1, *shape), 0.5), torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0])))


def test_white_noise_of_the_given_spread() -> None:
    given = image(40, 50, 60)
    noisy = gaussian_noise(given, 0.04, seed=3)
    assert noisy.dtype == torch.float32 and torch.equal(noisy.affine, given.affine)
    assert (given == 0.5).all()
    noise = (noisy.as_tensor() - given.as_tensor()).numpy().ravel() / 0.04
    assert kstest(noise, "norm").pvalue > 0.01
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 4 / np.sqrt(noise.size)
    assert torch.equal(noisy, gaussian_noise(given, 0.04, seed=3))
    assert not torch.equal(noisy, gaussian_noise(given, 0.04, seed=4))
    assert torch.equal(gaussian_noise(given, 0.0, seed=3), given)


def test_chance_and_spread_are_monais() -> None:
    given, rounds = image(12, 12, 12), 400
    ours = RandNoised("image", max_std=0.04, prob=0.4)
    theirs = RandGaussianNoise(prob=0.4, std=0.04)
    ours.set_random_state(1)
    theirs.set_random_state(2)
    spreads: list[list[float]] = [[], []]
    for _ in range(rounds):
        both = (ours({"image": given})["image"], theirs(given))
        for found, noisy in zip(spreads, both, strict=True):
            if not torch.equal(noisy, given):
                found.append(float((noisy - given).std()))
    for found in spreads:
        assert abs(len(found) - 0.4 * rounds) < 4 * np.sqrt(rounds * 0.4 * 0.6)
        assert kstest(found, "uniform", args=(0, 0.04)).pvalue > 0.01


def test_it_is_drawn_anew_and_repeats_with_the_seed() -> None:
    given = {"image": image(6, 6, 6), "again": image(6, 6, 6), "mask": "kept"}
    chain = Compose([RandNoised(["image", "again"], max_std=1.0, prob=1.0)])
    chain.set_random_state(5)
    first, second = chain(given), chain(given)
    assert torch.equal(first["image"], first["again"]) and first["mask"] == "kept"
    assert not torch.equal(first["image"], second["image"])
    chain.set_random_state(5)
    assert torch.equal(chain(given)["image"], first["image"])


def test_refuses() -> None:
    with pytest.raises(ValueError, match="std must be 0 or more, got -1"):
        gaussian_noise(image(3, 3), -1, seed=0)
    with pytest.raises(ValueError, match=r"max_std must be 0 or more, got -0\.1"):
        RandNoised("image", max_std=-0.1)
