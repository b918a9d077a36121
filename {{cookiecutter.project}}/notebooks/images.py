# %% [markdown]
# # The data, the model, and a change of it
#
# A notebook as plain text: VS Code and PyCharm run its cells, Jupyter opens it with jupytext, and
# `python notebooks/images.py` runs it from start to end. It needs the results of `dvc repro`, and changes none of them.
# [docs/notebooks.md](../docs/notebooks.md) says more.

# %%
import matplotlib.pyplot as plt

from {{cookiecutter.package}}.harness import notebook

# %% [markdown]
# Examples, predictions of the evaluated model, and its test metrics with the MLflow run that has them.

# %%
examples = notebook.examples("test")
answers = notebook.answers("test")
metrics, run = notebook.metrics(), notebook.run()

# %%
print(f"{len(examples.targets)} test examples, the first: {examples.targets[0]}")
print(f"predicted: {answers[0]}")
print(metrics)
print(f"MLflow run: {run.info.run_id if run else 'not logged'}")

# %% [markdown]
# Some pictures.

# %%
figure, axes = plt.subplots(2, 5, figsize=(8, 4))
for axis, picture, target in zip(axes.flat, examples.inputs, examples.targets, strict=False):
    axis.imshow(picture.squeeze(), cmap="gray")
    axis.set_title(target)
    axis.axis("off")
plt.show()

# %% [markdown]
# A change, tried on the same data: any override that `dvc exp run -S` takes. Keep what is better in `conf/`, then
# `dvc repro`.

# %%
trial = notebook.fit("model=mlp", "train.epochs=3")
print(trial.metrics)

# %%
figure, axis = plt.subplots()
notebook.history()["val_loss"].plot(ax=axis, label="pipeline")
trial.history["val_loss"].plot(ax=axis, label="trial")
axis.set_xlabel("epoch")
axis.set_ylabel("validation loss")
axis.legend()
plt.show()
