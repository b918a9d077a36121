"""Gradient boosting of decision trees."""

from typing import Annotated

from pydantic import Field

from ..harness import contracts
from ..harness.contracts import Boosting, Fitted
from ..harness.training import table_trees


def gradient_boosting(  # noqa: PLR0913  The keyword-only parameters are section `model` of the configuration.
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    how: Boosting,
    *,
    leaves: Annotated[int, Field(ge=2)],
    min_rows: Annotated[int, Field(ge=1)],
    l2: Annotated[float, Field(ge=0)],
    columns: Annotated[float, Field(gt=0, le=1)],
) -> Fitted:
    """Gradient boosting: a sum of decision trees, each fitted to the errors of the sum before it.

    F_m = F_(m-1) + learning_rate * h_m, with a tree h_m that follows the negative gradient of the loss: the squared
    error, or the cross-entropy of the softmax (two classes: of the logistic function).
    Source: J. H. Friedman, Greedy Function Approximation: A Gradient Boosting Machine, Annals of Statistics 29, 2001;
    with histograms of at most 255 bins, as G. Ke et al., LightGBM, NeurIPS 2017, here by scikit-learn.

    Args:
        inputs: The encoded rows of a table.
        manifest: Manifest of the prepared data.
        how: Iterations, learning rate and early stopping.
        leaves: Maximum number of leaves of a tree.
        min_rows: Minimum number of training rows in a leaf.
        l2: Penalty of the leaves' values.
        columns: Fraction of the columns, drawn at random, among which a split chooses.

    Raises:
        UserError: If the encoding is for other models, or no tree has a split.
    """
    # Here, not above: the stage `config` reads this signature.
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if manifest["target"] == "classification" else HistGradientBoostingRegressor
    trees = kind(
        max_iter=how.iterations,
        learning_rate=how.learning_rate,
        max_leaf_nodes=leaves,
        min_samples_leaf=min_rows,
        l2_regularization=l2,
        max_features=columns,
        random_state=how.seed,
    )
    return table_trees.fit(trees, inputs, manifest, how)
