"""The block of metadata at the top of the model card, for tools.

Its form is Hugging Face's, which their hub, MLflow and other readers of cards take: YAML between two lines `---`, with
the results as `model-index` (https://huggingface.co/docs/hub/model-cards).
"""

from typing import Any

import yaml

from ..core.paths import NAME
from ..core.text import rounded
from .contracts import Evaluation
from .workspace import Workspace

LINE = "---"


def block(workspace: Workspace, evaluation: Evaluation) -> str:
    """The block of metadata.

    Args:
        workspace: Results of the earlier stages.
        evaluation: Results on the test split.
    """
    manifest, description = workspace.manifest, workspace.description
    data = workspace.parameters["data"].get("_target_", manifest["input"]).rsplit(".", 1)[-1]
    task = f"{'image' if manifest['input'] == 'images' else 'tabular'}-{manifest['target']}"
    metrics = [
        {"type": name, "name": label, "value": rounded(evaluation.estimates[name].value)}
        for name, (label, _) in evaluation.labels.items()
        if name in evaluation.estimates
    ]
    dataset = {"type": data, "name": data, "split": "test", "revision": manifest["digests"]["test"]}
    content: dict[str, Any] = {
        "library_name": "onnx",
        "pipeline_tag": task,
        "tags": [task, description["model"]["_target_"].rsplit(".", 1)[-1]],
        "datasets": [data],
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": NAME, "results": [{"task": {"type": task}, "dataset": dataset, "metrics": metrics}]}],
    }
    return f"{LINE}\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)}{LINE}"


def without(card: str) -> str:
    """A model card without its block of metadata.

    Args:
        card: The text of a model card, with or without the block.
    """
    if not card.startswith(f"{LINE}\n"):
        return card
    return card.partition(f"\n{LINE}\n")[2].lstrip("\n")
