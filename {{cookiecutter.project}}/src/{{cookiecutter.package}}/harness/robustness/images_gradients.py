"""Attacks that follow the gradients of the Keras model, by ART."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.paths import MODELS
from ..training import kernels, restore
from .contracts import Subject

STEPS = 20  # of PGD


def attacked(
    subject: Subject, pictures: NDArray[np.float32], epsilons: list[float], seed: int
) -> Iterator[tuple[str, str, float, NDArray[np.float32]]]:
    """Pictures changed by FGSM and PGD, for each epsilon.

    Sources: I. Goodfellow, J. Shlens, C. Szegedy, Explaining and Harnessing Adversarial Examples, ICLR 2015;
    A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.

    Args:
        subject: The examples and the model.
        pictures: The unchanged pictures, [n, H, W, C], values from 0 to 255.
        epsilons: Largest changes of a value.
        seed: Seed of PGD's random start.

    Yields:
        Name, title, epsilon and changed pictures, values from 0 to 255.

    Raises:
        UserError: If the model is not a Keras model.
    """
    if "keras" not in subject.description:
        raise UserError("robustness.white_box: only Keras models have gradients: set it to false")
    kernels.choose(portable=True)  # before the next line imports TensorFlow
    from ..training.quiet import keras, tf

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)
        from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
        from art.estimators.classification import TensorFlowV2Classifier

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    with kernels.exact(), tf.device("CPU:0"):  # the same bits on every processor, with and without a GPU
        victim: Any = TensorFlowV2Classifier(
            restore.load_keras(MODELS),
            len(subject.manifest["classes"]),
            pictures.shape[1:],
            keras.losses.SparseCategoricalCrossentropy(),
            clip_values=(0, 255),
        )
        for epsilon in epsilons:
            fgsm = FastGradientMethod(victim, eps=epsilon)
            yield "fgsm", "FGSM (1 gradient)", epsilon, fgsm.generate(pictures, subject.targets)
        for epsilon in epsilons:
            # Steps of 2.5 epsilon / steps, as the source has them: they can cross the ball and turn back.
            pgd = ProjectedGradientDescent(
                victim, eps=epsilon, eps_step=2.5 * epsilon / STEPS, max_iter=STEPS, num_random_init=1, verbose=False
            )
            yield "pgd", f"PGD ({STEPS} gradients)", epsilon, pgd.generate(pictures, subject.targets)
