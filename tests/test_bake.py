"""What is generated: which files, that each can be read, that no Jinja is left, that the checkers pass."""

import ast
import configparser
import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, TEMPLATE, BakedProject, Copy, execute, template

# Every file of a project, whatever its task and its scope. `<package>` stands for the name of the package.
FILES = set(
    """
    .devcontainer/devcontainer.json
    .dvc/.gitignore
    .dvc/config
    .dvcignore
    .editorconfig
    .gitattributes
    .gitignore
    .pre-commit-config.yaml
    .vscode/settings.json
    .vscode/tasks.json
    .yamllint.yaml
    LICENSE
    Makefile
    README.md
    SECURITY.md
    conf/ci.yaml
    conf/config.yaml
    conf/debug/limit.yaml
    conf/debug/overfit.yaml
    conf/debug/profile.yaml
    conf/experiment/mlp.yaml
    conf/explain/default.yaml
    conf/explain/none.yaml
    conf/launcher/joblib.yaml
    conf/launcher/local.yaml
    conf/launcher/ray.yaml
    conf/launcher/slurm.yaml
    conf/robustness/default.yaml
    conf/robustness/none.yaml
    conf/model/mlp.yaml
    conf/sweep.yaml
    conf/sweep/cmaes.yaml
    conf/sweep/grid.yaml
    conf/sweep/pareto.yaml
    conf/sweep/random.yaml
    conf/sweep/space/default.yaml
    conf/sweep/tpe.yaml
    conf/train/default.yaml
    conf/train/strategy/default.yaml
    conf/train/strategy/mirrored.yaml
    conf/train/strategy/multi_worker.yaml
    data/raw/.gitkeep
    docs/ci.md
    docs/commands.md
    docs/configuration.md
    docs/data-versioning.md
    docs/devices.md
    docs/environment.md
    docs/evaluation.md
    docs/explanations.md
    docs/index.md
    docs/notebooks.md
    docs/pipeline.md
    docs/robustness.md
    docs/sweep.md
    docs/tests.md
    docs/tracking.md
    docs/training.md
    docs/troubleshooting.md
    docs/update.md
    dvc.yaml
    pyproject.toml
    requirements/dev.lock
    requirements/gpu.lock
    requirements/train.lock
    src/<package>/__init__.py
    src/<package>/__main__.py
    src/<package>/data/__init__.py
    src/<package>/harness/__init__.py
    src/<package>/harness/automation/__init__.py
    src/<package>/harness/automation/ci.py
    src/<package>/harness/automation/differences.py
    src/<package>/harness/automation/settings.py
    src/<package>/harness/configuration.py
    src/<package>/harness/contracts.py
    src/<package>/harness/core/__init__.py
    src/<package>/harness/core/commands.py
    src/<package>/harness/core/config.py
    src/<package>/harness/core/errors.py
    src/<package>/harness/core/files.py
    src/<package>/harness/core/imports.py
    src/<package>/harness/core/paths.py
    src/<package>/harness/core/programs.py
    src/<package>/harness/core/stages.py
    src/<package>/harness/core/text.py
    src/<package>/harness/drift/__init__.py
    src/<package>/harness/drift/bins.py
    src/<package>/harness/drift/contracts.py
    src/<package>/harness/drift/evidence.py
    src/<package>/harness/drift/recent.py
    src/<package>/harness/drift/reference.py
    src/<package>/harness/evaluation/__init__.py
    src/<package>/harness/evaluation/card.html
    src/<package>/harness/evaluation/card.py
    src/<package>/harness/evaluation/contracts.py
    src/<package>/harness/evaluation/html.py
    src/<package>/harness/evaluation/membership.py
    src/<package>/harness/evaluation/metadata.py
    src/<package>/harness/evaluation/metrics.py
    src/<package>/harness/evaluation/names.py
    src/<package>/harness/evaluation/plots.py
    src/<package>/harness/evaluation/reference.py
    src/<package>/harness/evaluation/report.py
    src/<package>/harness/evaluation/settings.py
    src/<package>/harness/evaluation/slice_card.py
    src/<package>/harness/evaluation/slices.py
    src/<package>/harness/evaluation/workspace.py
    src/<package>/harness/explanation/__init__.py
    src/<package>/harness/explanation/attribution.py
    src/<package>/harness/explanation/checks.py
    src/<package>/harness/explanation/contracts.py
    src/<package>/harness/explanation/plan.py
    src/<package>/harness/explanation/ranks.py
    src/<package>/harness/explanation/report.py
    src/<package>/harness/explanation/settings.py
    src/<package>/harness/explanation/subject.py
    src/<package>/harness/executors/__init__.py
    src/<package>/harness/executors/local.py
    src/<package>/harness/executors/ray.py
    src/<package>/harness/exported/__init__.py
    src/<package>/harness/exported/attribution.py
    src/<package>/harness/exported/counterfactuals.py
    src/<package>/harness/exported/explainer.py
    src/<package>/harness/exported/golden.py
    src/<package>/harness/exported/graphs.py
    src/<package>/harness/exported/inference.py
    src/<package>/harness/exported/model.py
    src/<package>/harness/exported/softmax.py
    src/<package>/harness/inputs/__init__.py
    src/<package>/harness/inputs/contracts.py
    src/<package>/harness/preparation/__init__.py
    src/<package>/harness/preparation/settings.py
    src/<package>/harness/preparation/splits.py
    src/<package>/harness/notebook/__init__.py
    src/<package>/harness/prepared/__init__.py
    src/<package>/harness/robustness/__init__.py
    src/<package>/harness/robustness/contracts.py
    src/<package>/harness/robustness/none.py
    src/<package>/harness/robustness/plots.py
    src/<package>/harness/robustness/report.py
    src/<package>/harness/robustness/search.py
    src/<package>/harness/robustness/subject.py
    src/<package>/harness/sweep/__init__.py
    src/<package>/harness/sweep/experiment.py
    src/<package>/harness/sweep/launchers/__init__.py
    src/<package>/harness/sweep/launchers/joblib.py
    src/<package>/harness/sweep/launchers/local.py
    src/<package>/harness/sweep/launchers/process.py
    src/<package>/harness/sweep/launchers/ray.py
    src/<package>/harness/sweep/launchers/slurm.py
    src/<package>/harness/sweep/main.py
    src/<package>/harness/sweep/plan.py
    src/<package>/harness/sweep/plots/__init__.py
    src/<package>/harness/sweep/plots/history.py
    src/<package>/harness/sweep/plots/importances.py
    src/<package>/harness/sweep/plots/learning_curves.py
    src/<package>/harness/sweep/plots/parallel_coordinates.py
    src/<package>/harness/sweep/plots/pareto_front.py
    src/<package>/harness/sweep/plots/scale.py
    src/<package>/harness/sweep/plots/seeds.py
    src/<package>/harness/sweep/plots/slices.py
    src/<package>/harness/sweep/plots/style.py
    src/<package>/harness/sweep/report.py
    src/<package>/harness/sweep/runs.py
    src/<package>/harness/sweep/samplers.py
    src/<package>/harness/sweep/settings.py
    src/<package>/harness/sweep/space.py
    src/<package>/harness/sweep/study.py
    src/<package>/harness/sweep/trials.py
    src/<package>/harness/sweep/worker.py
    src/<package>/harness/targets/__init__.py
    src/<package>/harness/targets/monitor.py
    src/<package>/harness/tracking/__init__.py
    src/<package>/harness/tracking/git.py
    src/<package>/harness/tracking/labels.py
    src/<package>/harness/tracking/lockfile.py
    src/<package>/harness/tracking/log.py
    src/<package>/harness/tracking/machine.py
    src/<package>/harness/tracking/outcome.py
    src/<package>/harness/tracking/proposal.py
    src/<package>/harness/tracking/runs.py
    src/<package>/harness/tracking/store.py
    src/<package>/harness/tracking/verdict.py
    src/<package>/harness/training/__init__.py
    src/<package>/harness/training/adversarial.py
    src/<package>/harness/training/batches.py
    src/<package>/harness/training/blocks.py
    src/<package>/harness/training/checkpoint.py
    src/<package>/harness/training/descent.py
    src/<package>/harness/training/devices.py
    src/<package>/harness/training/distributed.py
    src/<package>/harness/training/export.py
    src/<package>/harness/training/fit.py
    src/<package>/harness/training/gpu.py
    src/<package>/harness/training/keras_fit.py
    src/<package>/harness/training/kernels.py
    src/<package>/harness/training/memory.py
    src/<package>/harness/training/quiet.py
    src/<package>/harness/training/rendezvous.py
    src/<package>/harness/training/restore.py
    src/<package>/harness/training/strategy.py
    src/<package>/harness/training/workers.py
    src/<package>/models/__init__.py
    src/<package>/models/mlp.py
    src/<package>/stages/__init__.py
    src/<package>/stages/config.py
    src/<package>/stages/evaluate.py
    src/<package>/stages/explain.py
    src/<package>/stages/prepare.py
    src/<package>/stages/robustness.py
    src/<package>/stages/train.py
    src/<package>/tests/__init__.py
    src/<package>/tests/conftest.py
    src/<package>/tests/test_configuration.py
    src/<package>/tests/test_pipeline.py
    """.split()
)
# What a service adds.
SERVICE = set(
    """
    .bentoignore
    Dockerfile
    bentofile.yaml
    conf/gates.yaml
    conf/gates/default.yaml
    docs/image.md
    docs/lineage.md
    docs/audit.md
    docs/log.md
    docs/predict.md
    docs/release.md
    docs/retrain.md
    docs/savedmodel.md
    docs/serve.md
    docs/why.md
    make/service.mk
    requirements/release.lock
    src/<package>/harness/automation/retrain.py
    src/<package>/harness/automation/retrain_memory.py
    src/<package>/harness/automation/retrain_news.py
    src/<package>/harness/automation/retrain_report.py
    src/<package>/harness/automation/retrain_tree.py
    src/<package>/harness/batch/__init__.py
    src/<package>/harness/batch/answers.py
    src/<package>/harness/batch/contracts.py
    src/<package>/harness/batch/items.py
    src/<package>/harness/batch/parts.py
    src/<package>/harness/batch/predict.py
    src/<package>/harness/audit/__init__.py
    src/<package>/harness/audit/chain.py
    src/<package>/harness/audit/trail.py
    src/<package>/harness/audit/verify.py
    src/<package>/harness/capture/__init__.py
    src/<package>/harness/capture/answered.py
    src/<package>/harness/capture/contracts.py
    src/<package>/harness/capture/lines.py
    src/<package>/harness/capture/log.py
    src/<package>/harness/capture/segments.py
    src/<package>/harness/capture/settings.py
    src/<package>/harness/core/environment.py
    src/<package>/harness/lineage.py
    src/<package>/harness/packaging/__init__.py
    src/<package>/harness/packaging/bento.py
    src/<package>/harness/packaging/engines.py
    src/<package>/harness/packaging/image.py
    src/<package>/harness/packaging/licenses.py
    src/<package>/harness/packaging/provenance.py
    src/<package>/harness/packaging/savedmodel.py
    src/<package>/harness/packaging/sbom.py
    src/<package>/harness/packaging/secret_scan.py
    src/<package>/harness/packaging/signatures.py
    src/<package>/harness/packaging/symbols.py
    src/<package>/harness/packaging/tensorflow_model.py
    src/<package>/harness/packaging/tensorflow_trees.py
    src/<package>/harness/packaging/warm_up.py
    src/<package>/harness/release/__init__.py
    src/<package>/harness/release/envelope.py
    src/<package>/harness/release/gates.py
    src/<package>/harness/release/judge.py
    src/<package>/harness/release/mutex.py
    src/<package>/harness/release/registry.py
    src/<package>/harness/release/settings.py
    src/<package>/harness/release/signing.py
    src/<package>/harness/release/versions.py
    src/<package>/harness/serving/__init__.py
    src/<package>/harness/serving/admission.py
    src/<package>/harness/serving/auditing.py
    src/<package>/harness/serving/arrivals.py
    src/<package>/harness/serving/body.py
    src/<package>/harness/serving/brief.py
    src/<package>/harness/serving/checks.py
    src/<package>/harness/serving/counting.py
    src/<package>/harness/serving/explain.py
    src/<package>/harness/serving/feedback.py
    src/<package>/harness/serving/http.py
    src/<package>/harness/serving/interfaces.py
    src/<package>/harness/serving/labels.py
    src/<package>/harness/serving/limits.py
    src/<package>/harness/serving/log.py
    src/<package>/harness/serving/metrics.py
    src/<package>/harness/serving/model.py
    src/<package>/harness/serving/observer.py
    src/<package>/harness/serving/openapi.py
    src/<package>/harness/serving/page.py
    src/<package>/harness/serving/protected.py
    src/<package>/harness/serving/protocol.py
    src/<package>/harness/serving/refusal.py
    src/<package>/harness/serving/release.py
    src/<package>/harness/serving/routes.py
    src/<package>/harness/serving/rows.py
    src/<package>/harness/serving/serve.py
    src/<package>/harness/serving/server.py
    src/<package>/harness/serving/sockets.py
    src/<package>/harness/serving/tls.py
    src/<package>/harness/serving/watch.py
    src/<package>/page.html
    src/<package>/harness/serving/static/docs.html
    src/<package>/harness/serving/static/page.css
    src/<package>/harness/serving/static/page.js
    src/<package>/harness/serving/switches.py
    src/<package>/service.py
    """.split()
)
# What `production` adds to them.
PRODUCTION = set(
    """
    conf/monitoring.yaml
    docs/encryption.md
    docs/feedback.md
    docs/keys.md
    docs/proxy.md
    docs/recovery.md
    docs/monitoring.md
    docs/runbook.md
    docs/security.md
    make/production.mk
    monitoring/alertmanager.yml
    monitoring/compose.yaml
    monitoring/dashboard.json
    monitoring/grafana/dashboards.yml
    monitoring/grafana/datasources.yml
    monitoring/prometheus.yml
    monitoring/rules.yml
    monitoring/rules_test.yml
    monitoring/targets.yml
    requirements/monitoring.lock
    src/<package>/harness/feedback/__init__.py
    src/<package>/harness/feedback/collect.py
    src/<package>/harness/feedback/contracts.py
    src/<package>/harness/feedback/erase.py
    src/<package>/harness/feedback/history.py
    src/<package>/harness/feedback/ledger.py
    src/<package>/harness/feedback/person.py
    src/<package>/harness/feedback/production.py
    src/<package>/harness/feedback/production_counts.py
    src/<package>/harness/feedback/production_plots.py
    src/<package>/harness/feedback/reading.py
    src/<package>/harness/feedback/shares.py
    src/<package>/harness/monitoring/__init__.py
    src/<package>/harness/monitoring/alerts.py
    src/<package>/harness/monitoring/dashboard.py
    src/<package>/harness/monitoring/files.py
    src/<package>/harness/monitoring/panels.py
    src/<package>/harness/monitoring/promql.py
    src/<package>/harness/monitoring/rules.py
    src/<package>/harness/monitoring/rules_tests.py
    src/<package>/harness/monitoring/settings.py
    src/<package>/harness/monitoring/write.py
    src/<package>/harness/protection/__init__.py
    src/<package>/harness/protection/clients.py
    src/<package>/harness/protection/document.py
    src/<package>/harness/protection/guard.py
    src/<package>/harness/protection/keys.py
    src/<package>/harness/protection/rates.py
    src/<package>/harness/protection/settings.py
    src/<package>/harness/protection/shared.py
    src/<package>/harness/protection/windows.py
    src/<package>/tests/test_monitoring.py
    """.split()
)
# What delivery adds, wherever to.
DELIVERY = set(
    """
    conf/delivery.yaml
    deploy/gates.yaml
    deploy/service.env
    docs/chain.md
    docs/delivery.md
    docs/judging.md
    make/delivery.mk
    src/<package>/harness/delivery/__init__.py
    src/<package>/harness/delivery/abort.py
    src/<package>/harness/delivery/compare.py
    src/<package>/harness/delivery/comparison.py
    src/<package>/harness/delivery/deploy.py
    src/<package>/harness/delivery/description.py
    src/<package>/harness/delivery/check.py
    src/<package>/harness/delivery/gates.py
    src/<package>/harness/delivery/release.py
    src/<package>/harness/delivery/settings.py
    src/<package>/harness/delivery/status.py
    src/<package>/harness/delivery/target.py
    src/<package>/harness/delivery/undo.py
    src/<package>/harness/delivery/wald.py
    src/<package>/harness/delivery/write.py
    src/<package>/harness/delivery/written.py
    src/<package>/tests/test_delivery.py
    """.split()
)
# To plain hosts, by either tool.
HOSTS = set(
    """
    deploy/hosts.yaml
    deploy/hosts/container
    deploy/hosts/haproxy.cfg
    deploy/hosts/haproxy.default
    deploy/hosts/journald.conf
    deploy/hosts/model-rollout@.service
    deploy/hosts/model@.service
    deploy/hosts/nftables.conf
    deploy/hosts/prometheus-alertmanager.default
    deploy/hosts/prometheus.default
    deploy/hosts/prometheus.yml
    docs/hosts.md
    docs/operations.md
    src/<package>/harness/delivery/fleet.py
    src/<package>/harness/delivery/host.py
    src/<package>/harness/delivery/hosts.py
    src/<package>/harness/delivery/layout.py
    src/<package>/harness/delivery/peers.py
    src/<package>/harness/delivery/rollout.py
    src/<package>/harness/delivery/shadow.py
    """.split()
)
ANSIBLE = set(
    """
    deploy/ansible/handlers.yml
    deploy/ansible/site.yml
    deploy/ansible/tasks/balancer.yml
    deploy/ansible/tasks/base.yml
    deploy/ansible/tasks/packages.yml
    deploy/ansible/tasks/rollout.yml
    deploy/ansible/tasks/server.yml
    deploy/ansible/vars.yml
    """.split()
)
PUPPET = {"deploy/puppet/apply.sh", "deploy/puppet/hiera.yaml", "deploy/puppet/site.pp"}
KUBERNETES = set(
    """
    deploy/kustomization.yaml
    docs/cluster-work.md
    docs/gitops.md
    docs/kubernetes.md
    kubernetes/access/kustomization.yaml
    kubernetes/access/role.yaml
    kubernetes/base/deployment.yaml
    kubernetes/base/kustomization.yaml
    kubernetes/base/namespace.yaml
    kubernetes/base/network-policy.yaml
    kubernetes/base/scaling.yaml
    kubernetes/base/service-account.yaml
    kubernetes/base/service.yaml
    kubernetes/components/alerts/kustomization.yaml
    kubernetes/components/alerts/rules.yaml
    kubernetes/components/canary/analysis.yaml
    kubernetes/components/canary/kustomization.yaml
    kubernetes/components/canary/rollout.yaml
    kubernetes/components/canary/route.yaml
    kubernetes/components/gpu/kustomization.yaml
    kubernetes/components/keys/deployment.yaml
    kubernetes/components/keys/kustomization.yaml
    kubernetes/components/log/deployment.yaml
    kubernetes/components/log/kustomization.yaml
    kubernetes/components/log/volume.yaml
    kubernetes/components/monitoring/kustomization.yaml
    kubernetes/components/monitoring/pod-monitor.yaml
    kubernetes/components/release/kustomization.yaml
    kubernetes/components/tls/deployment.yaml
    kubernetes/components/tls/kustomization.yaml
    kubernetes/production/kustomization.yaml
    kubernetes/staging/kustomization.yaml
    kubernetes/work/Dockerfile
    kubernetes/work/common/kustomization.yaml
    kubernetes/work/common/namespace.yaml
    kubernetes/work/common/network-policy.yaml
    kubernetes/work/common/service-account.yaml
    kubernetes/work/common/volume.yaml
    kubernetes/work/files/job.yaml
    kubernetes/work/files/kustomization.yaml
    kubernetes/work/predict/job.yaml
    kubernetes/work/predict/kustomization.yaml
    kubernetes/work/settings/kustomization.yaml
    kubernetes/work/settings/steps.sh
    kubernetes/work/settings/work.env
    kubernetes/work/sweep-ray/job.yaml
    kubernetes/work/sweep-ray/kustomization.yaml
    kubernetes/work/sweep/job.yaml
    kubernetes/work/sweep/kustomization.yaml
    kubernetes/work/train-workers/job.yaml
    kubernetes/work/train-workers/kustomization.yaml
    kubernetes/work/train/job.yaml
    kubernetes/work/train/kustomization.yaml
    requirements/cluster.lock
    src/<package>/harness/delivery/kubernetes.py
    """.split()
)
TARGETS = {"ansible": HOSTS | ANSIBLE, "puppet": HOSTS | PUPPET, "kubernetes": KUBERNETES}
# What a task adds to them, by what comes in and what is answered.
IMAGES = set(
    """
    conf/augmentation/light.yaml
    conf/augmentation/none.yaml
    conf/augmentation/strong.yaml
    conf/data/digits.yaml
    conf/data/image_folder.yaml
    conf/experiment/cnn.yaml
    conf/experiment/driving.yaml
    conf/experiment/mobilenet_v3.yaml
    conf/experiment/resnet50.yaml
    conf/model/cnn.yaml
    conf/model/mobilenet_v3.yaml
    conf/model/resnet50.yaml
    data/weights/.gitkeep
    docs/driving.md
    docs/pictures.md
    docs/requests-pictures.md
    notebooks/images.py
    requirements/images.lock
    requirements/serve-images.lock
    src/<package>/augmentation.py
    src/<package>/data/images.py
    src/<package>/harness/batch/images.py
    src/<package>/harness/capture/images.py
    src/<package>/harness/drift/images.py
    src/<package>/harness/evaluation/images.py
    src/<package>/harness/explanation/images.py
    src/<package>/harness/explanation/images_plots.py
    src/<package>/harness/exported/images.py
    src/<package>/harness/exported/images_grid.py
    src/<package>/harness/robustness/images.py
    src/<package>/harness/robustness/images_changes.py
    src/<package>/harness/robustness/images_gradients.py
    src/<package>/harness/robustness/images_plots.py
    src/<package>/harness/inputs/images.py
    src/<package>/harness/preparation/images.py
    src/<package>/harness/notebook/images.py
    src/<package>/harness/prepared/images.py
    src/<package>/harness/training/transfer.py
    src/<package>/models/cnn.py
    src/<package>/models/mobilenet_v3.py
    src/<package>/models/resnet50.py
    src/<package>/tests/test_augmentation.py
    src/<package>/tests/test_data_images.py
    src/<package>/tests/test_model_images.py
    """.split()
)
TABLES = set(
    """
    conf/data/csv.yaml
    conf/data/parquet.yaml
    conf/experiment/gradient_boosting.yaml
    conf/features/default.yaml
    conf/features/embedding.yaml
    conf/features/hashing.yaml
    conf/features/linear.yaml
    conf/features/trees.yaml
    conf/model/gradient_boosting.yaml
    conf/train/boosting.yaml
    conf/train/solver.yaml
    docs/requests-tables.md
    docs/privacy.md
    docs/table-models.md
    docs/tables.md
    notebooks/tables.py
    requirements/serve-tables.lock
    requirements/tables.lock
    src/<package>/data/tables.py
    src/<package>/features.py
    src/<package>/harness/batch/tables.py
    src/<package>/harness/capture/tables.py
    src/<package>/harness/drift/tables.py
    src/<package>/harness/evaluation/tables.py
    src/<package>/harness/explanation/table_partial.py
    src/<package>/harness/explanation/table_plots.py
    src/<package>/harness/explanation/table_words.py
    src/<package>/harness/explanation/tables.py
    src/<package>/harness/exported/tables.py
    src/<package>/harness/robustness/tables.py
    src/<package>/harness/robustness/tables_pairs.py
    src/<package>/harness/inputs/table_dates.py
    src/<package>/harness/inputs/table_notation.py
    src/<package>/harness/inputs/tables.py
    src/<package>/harness/packaging/tables.py
    src/<package>/harness/preparation/schema.py
    src/<package>/harness/preparation/table_private.py
    src/<package>/harness/preparation/schema_checks.py
    src/<package>/harness/preparation/schema_hints.py
    src/<package>/harness/preparation/schema_inference.py
    src/<package>/harness/preparation/table.py
    src/<package>/harness/preparation/table_cells.py
    src/<package>/harness/preparation/table_files.py
    src/<package>/harness/preparation/table_guesses.py
    src/<package>/harness/preparation/table_rows.py
    src/<package>/harness/preparation/table_review.py
    src/<package>/harness/preparation/table_splits.py
    src/<package>/harness/preparation/table_violations.py
    src/<package>/harness/preparation/table_writer.py
    src/<package>/harness/preparation/tables.py
    src/<package>/harness/notebook/tables.py
    src/<package>/harness/prepared/tables.py
    src/<package>/harness/training/encoding.py
    src/<package>/harness/training/linear.py
    src/<package>/harness/training/table_dates.py
    src/<package>/harness/training/table_numbers.py
    src/<package>/harness/training/table_likelihood.py
    src/<package>/harness/training/table_trees.py
    src/<package>/models/gradient_boosting.py
    src/<package>/tests/test_data_tables.py
    src/<package>/tests/test_features.py
    src/<package>/tests/test_model_tables.py
    """.split()
)
CLASSIFICATION = set(
    """
    docs/classification.md
    src/<package>/harness/drift/classification.py
    src/<package>/harness/evaluation/classification.py
    src/<package>/harness/evaluation/classification_decision.py
    src/<package>/harness/evaluation/classification_plots.py
    src/<package>/harness/explanation/classification.py
    src/<package>/harness/robustness/classification.py
    src/<package>/harness/targets/classification.py
    """.split()
)
TASKS = {
    "image-classification": IMAGES | CLASSIFICATION,
    "tabular-classification": TABLES
    | CLASSIFICATION
    | set(
        """
        conf/data/breast_cancer.yaml
        conf/data/credit.yaml
        conf/experiment/credit.yaml
        conf/experiment/diagnosis.yaml
        docs/credit.md
        docs/diagnosis.md
        src/<package>/data/credit.py
        schema/credit.yaml
        conf/experiment/logistic_regression.yaml
        conf/model/logistic_regression.yaml
        schema/breast_cancer.yaml
        src/<package>/models/logistic_regression.py
        """.split()
    ),
    "tabular-regression": TABLES
    | set(
        """
        conf/data/diabetes.yaml
        conf/experiment/linear_regression.yaml
        conf/model/linear_regression.yaml
        docs/regression.md
        schema/diabetes.yaml
        src/<package>/harness/drift/regression.py
        src/<package>/harness/evaluation/regression.py
        src/<package>/harness/evaluation/regression_plots.py
        src/<package>/harness/explanation/regression.py
        src/<package>/harness/robustness/regression.py
        src/<package>/harness/targets/regression.py
        src/<package>/models/linear_regression.py
        """.split()
    ),
}
# What a remote adds.
MORE = {
    "s3": {"docs/remote-s3.md", "requirements/remote-s3.lock"},
    "gcs": {"requirements/remote-gcs.lock"},
    "azure": {"requirements/remote-azure.lock"},
    "ssh": {"requirements/remote-ssh.lock"},
}
# What a CI adds, and an open licence.
GITHUB = {".github/ISSUE_TEMPLATE/problem.md", ".github/pull_request_template.md"}
PROVIDERS = {
    "github": GITHUB
    | {
        ".github/actions/credentials/action.yml",
        ".github/actions/setup/action.yml",
        ".github/dependabot.yml",
        ".github/workflows/ci.yml",
        ".github/workflows/retrain.yml",
        "docs/ci-github.md",
    },
    "gitlab": {
        ".gitlab-ci.yml",
        ".gitlab/issue_templates/Default.md",
        ".gitlab/merge_request_templates/Default.md",
        "docs/ci-gitlab.md",
        "renovate.json",
    },
    "jenkins": {"Jenkinsfile", "docs/ci-jenkins.md"},
    "travis": GITHUB | {".travis.yml", "docs/ci-travis.md"},
    "none": set(),
}
# What a task or a CI adds to a service, and to no experiment.
SERVED = {
    ".github/workflows/retrain.yml",
    "docs/requests-pictures.md",
    "docs/requests-tables.md",
    "requirements/serve-images.lock",
    "requirements/serve-tables.lock",
    "src/<package>/harness/batch/images.py",
    "src/<package>/harness/batch/tables.py",
    "src/<package>/harness/capture/images.py",
    "src/<package>/harness/capture/tables.py",
    "src/<package>/harness/packaging/tables.py",
}
OPEN = {"CITATION.cff"}
LICENSES = {
    "MIT": "Permission is hereby granted, free of charge",
    "Apache-2.0": "Version 2.0, January 2004",
    "BSD-3-Clause": "Redistribution and use in source and binary forms",
    "Proprietary": "All rights reserved.",
}
REMOTES = ("local", "s3", "gcs", "azure", "ssh")
UNICODE = {
    "project_name": "L'atelier d'Éloïse: 実験 #1 🧪",
    "description": "Ça marche à 100 %: 'vrai' & <simple> – [a, b] {c} | @ ` * 🎉",
    "author_name": "Zoë O'Connor-Ñuñez 山田",
    "author_email": "zoë@exämple.org",
}
# Signs of Jinja that was not rendered; `${{ }}` is an expression of GitHub's.
LEFTOVER = re.compile(r"(?<!\$)\{\{|\{%|\{#|cookiecutter\.|\bcookiecutter\b\s*\[")
# PromQL, Prometheus' templates, legends of Grafana, what writes them, and Argo's analysis have braces, too.
BRACES = re.compile(
    r"^(deploy/ansible|monitoring|src/\w+/harness/(delivery|monitoring)|kubernetes/components/(alerts|canary))/"
)
CHOICES = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))


def expected_files(
    package: str = "my_experiment",
    *,
    task: str = "image-classification",
    scope: str = "service",
    license: str = "MIT",
    dvc_remote: str = "local",
    ci: str = "github",
    deploy: str = "none",
) -> set[str]:
    """Lists what a project must hold, no more and no less."""
    names = FILES | TASKS[task] | MORE.get(dvc_remote, set()) | PROVIDERS[ci]
    names |= OPEN if license != "Proprietary" else set()
    names = names - SERVED if scope == "experiment" else names | SERVICE
    if scope == "production":
        kind = "images" if task.startswith("image") else "tables"
        names |= PRODUCTION | {f"src/<package>/harness/feedback/{kind}.py"}
        # The image has packages more.
        names = names - {f"requirements/serve-{kind}.lock"} | {f"requirements/serve-production-{kind}.lock"}
    if deploy != "none":
        names |= DELIVERY | TARGETS[deploy] | ({".github/workflows/deploy.yml"} if ci == "github" else set())
    return {name.replace("<package>", package) for name in names}


def jsonc(text: str) -> Any:
    """Reads JSON with comments, each at the end of a line, as the files of editors are."""
    return json.loads(re.sub(r"(?m)(^|\s)//.*$", "", text))


def makefiles(project: BakedProject) -> set[str]:
    """The Makefile of a project and what it includes."""
    return {name for name in project.files() if name == "Makefile" or name.endswith(".mk")}


def check_text(project: BakedProject) -> None:
    """Reads every file with the parser of its kind, and looks for what Jinja left."""
    for name in sorted(project.files()):
        content = (project.path / name).read_bytes()
        if b"\0" in content:
            continue
        text = content.decode("utf-8")
        assert not LEFTOVER.search(name), name
        left = LEFTOVER.search(text.replace("{{", "") if BRACES.search(name) else text)
        assert left is None, f"{name} still holds {left}"
        assert text == "" or text.endswith("\n"), f"{name} does not end with a newline"
        match Path(name).suffix:
            case ".toml":
                tomllib.loads(text)
            case ".yaml" | ".yml":
                list(yaml.safe_load_all(text))
            case ".json" if Path(name).parent.name in (".devcontainer", ".vscode"):
                jsonc(text)
            case ".json":
                json.loads(text)
            case ".py":
                ast.parse(text, name)


def test_the_lists_of_choices_are_those_of_the_questions() -> None:
    assert set(CHOICES["license"]) == set(LICENSES)
    assert tuple(CHOICES["dvc_remote"]) == REMOTES
    assert CHOICES["ci"] == list(PROVIDERS)
    assert CHOICES["task"] == list(TASKS)
    assert CHOICES["scope"] == ["service", "experiment", "production"]
    assert CHOICES["deploy"] == ["none", *TARGETS]
    assert {path.name for path in (ROOT / "templates" / "licenses").iterdir()} == set(LICENSES)


def test_every_question_is_worded_as_one() -> None:
    asked = [name for name in CHOICES if not name.startswith("_")]
    assert list(CHOICES["__prompts__"]) == asked
    for name in asked:
        prompt = CHOICES["__prompts__"][name]
        words = prompt["__prompt__"] if isinstance(prompt, dict) else prompt
        assert re.search(r"\?( \(.+\))?$", words), words
        if isinstance(CHOICES[name], list):
            assert set(prompt) == {"__prompt__", *CHOICES[name]}


# Each choice with the first of the others: a licence decides the text of one file, a remote which locks stay and the
# text of .dvc/config, a CI its own files, a task the rest. A scope decides what of a task and of a CI is there.
COMBINATIONS = [
    *[{"license": name} for name in LICENSES],
    *[{"dvc_remote": remote} for remote in REMOTES[1:]],
    *[{"dvc_remote": "s3", "task": task} for task in list(TASKS)[1:]],
    *[{"ci": ci} for ci in list(PROVIDERS)[1:]],
    *[{"scope": "experiment", "task": task} for task in TASKS],
    *[{"scope": "experiment", "ci": ci} for ci in list(PROVIDERS)[1:]],
    {"scope": "production"},
    {"scope": "production", "deploy": "ansible"},
    {"scope": "production", "deploy": "puppet", "task": "tabular-classification"},
    {"scope": "production", "deploy": "kubernetes", "task": "tabular-regression"},
]


@pytest.mark.parametrize("answers", COMBINATIONS, ids=lambda answers: ",".join(answers.values()))
def test_bake(bake: Callable[..., BakedProject], answers: dict[str, str]) -> None:
    project = bake(**answers)
    assert project.files() == expected_files(**answers)
    ci, license_name = answers.get("ci", "github"), answers.get("license", "MIT")
    assert (project.path / ".github").exists() == (ci in ("github", "travis")), "an empty folder"
    check_text(project)
    text = project.read("LICENSE")
    assert LICENSES[license_name] in text
    assert ("Copyright (c) Your Name" in text) == (license_name != "Apache-2.0")
    assert not re.search(r"(?i)copyright[^\n]*\b20\d\d\b", text), "a year would differ at the next cruft update"
    if PROVIDERS[ci]:  # names of credentials are not credentials
        project.run("detect-secrets-hook", "--no-verify", *(name for name in PROVIDERS[ci] if project.has_file(name)))
    assert project.git_status() == ""


def test_the_apache_license_is_the_whole_text(bake: Callable[..., BakedProject]) -> None:
    lines = bake(license="Apache-2.0").read("LICENSE").splitlines()
    sections = [line.split(".")[0].strip() for line in lines if re.match(r"   \d\. \w", line)]
    assert sections == [str(number) for number in range(1, 10)]
    assert lines[-1] == "   limitations under the License."


@pytest.mark.parametrize("scope", CHOICES["scope"])
def test_the_tasks_of_the_editor_are_the_targets_of_make(bake: Callable[..., BakedProject], scope: str) -> None:
    project = bake(scope=scope)
    targets = re.findall(r"^  make ([a-z]+) ", project.run("make", "help").stdout, re.M)
    (target,) = jsonc(project.read(".vscode/tasks.json"))["inputs"]
    assert target["options"] == [name for name in targets if name != "help"]


def test_the_editor_finds_package_and_tests(default_project: BakedProject) -> None:
    """VS Code takes .venv by itself, and calls pytest in the project's root; PyCharm does both."""
    settings = ".vscode/settings.json"
    assert jsonc(default_project.read(settings))["python.testing.pytestEnabled"] is True
    assert settings in default_project.run("git", "ls-files").stdout.splitlines(), "git ignores it"
    collected = default_project.run(
        "python",
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        "not keras",
        "src/my_experiment/tests/test_configuration.py",
    )
    assert "test_configuration.py::" in collected.stdout


@pytest.mark.parametrize("scope", CHOICES["scope"])
def test_the_container_installs_what_the_project_needs(bake: Callable[..., BakedProject], scope: str) -> None:
    project = bake(scope=scope)
    container = jsonc(project.read(".devcontainer/devcontainer.json"))
    version = re.fullmatch(r"mcr.microsoft.com/devcontainers/python:(3\.\d+)-\w+", container["image"])
    requires = tomllib.loads(project.read("pyproject.toml"))["project"]["requires-python"]
    assert version and requires.startswith(f">={version.group(1)},")
    assert container["postCreateCommand"] == "make setup"
    assert container["hostRequirements"] == {"gpu": "optional"}
    served = set(re.findall(r"PORT:-(\d+)", "".join(map(project.read, makefiles(project)))))
    assert {str(port) for port in container["forwardPorts"]} == served


def test_no_hook_corrects_what_the_editor_is_told(default_project: BakedProject) -> None:
    """.editorconfig agrees with the files as they are, and with ruff."""
    told = configparser.ConfigParser()
    told.read_string("[*top*]\n" + re.sub(r"\s+#.*", "", default_project.read(".editorconfig")))
    ruff = tomllib.loads(default_project.read("pyproject.toml"))["tool"]["ruff"]
    assert told["*.py"]["max_line_length"] == str(ruff["line-length"])
    for name in makefiles(default_project):
        assert re.search(r"^\t", default_project.read(name), re.M)
    assert told["{Makefile,*.mk}"]["indent_style"] == "tab"
    for name in default_project.files() - makefiles(default_project):
        indent = " " * int(told["*.py" if name.endswith(".py") else "*"]["indent_size"])
        text = default_project.read(name) if not name.endswith((".lock", ".md")) else ""
        text = re.sub(r'""".*?"""', "", text, flags=re.S)  # what a test writes may be indented as it likes
        assert all(line.startswith((indent, " *")) for line in text.splitlines() if line[:1].isspace()), name


def test_git_leaves_what_programs_write_in_one_piece(default_project: BakedProject, copy: Copy) -> None:
    """Where both sides of a merge have changed it, the file can still be read, and git says that it is unmerged."""
    project = copy(default_project)
    name = "requirements/serve-images.lock"
    project.run("git", "switch", "--quiet", "--create", "theirs")
    (project.path / name).write_text(project.read(name).replace("numpy==", "numpy==9."))
    project.commit("Theirs")
    project.run("git", "switch", "--quiet", "main")
    ours = project.read(name).replace("numpy==", "numpy==8.")
    (project.path / name).write_text(ours)
    project.commit("Ours")
    assert project.run("git", "merge", "theirs", check=False).returncode != 0
    assert project.git_status() == f"UU {name}\n"
    assert project.read(name) == ours
    checked = project.run("git", "check-attr", "eol", "merge", "--", "README.md", "dvc.lock").stdout
    assert "README.md: eol: lf" in checked and "dvc.lock: merge: unset" in checked


# The comment of a reason comes first where the format has comments; Renovate's JSON has a key for it.
REASONED = (".devcontainer/devcontainer.json", ".vscode/tasks.json", ".editorconfig", ".gitattributes", "CITATION.cff")
REASONED_CI = {
    "github": (".github/dependabot.yml", ".github/pull_request_template.md"),
    "gitlab": (".gitlab/issue_templates/Default.md", ".gitlab/merge_request_templates/Default.md"),
}


@pytest.mark.parametrize("ci", REASONED_CI)
def test_small_files_say_what_they_are_for(bake: Callable[..., BakedProject], ci: str) -> None:
    project = bake(ci=ci)
    for name in (*REASONED, *REASONED_CI[ci]):
        assert re.match(r"(#|//|<!--) \w[^\n]{20,}\n", project.read(name)), name
    if ci == "gitlab":
        schema = ["check-jsonschema", "--builtin-schema", "vendor.renovate", "renovate.json"]
        project.run(*schema)
        renovate = json.loads(project.read("renovate.json"))
        assert renovate["description"]
        (rule,) = renovate["packageRules"]  # nothing proposes a Python that the locks are not resolved for
        (name,) = rule["matchPackageNames"]
        images = ("python", "docker.io/library/python", "mcr.microsoft.com/devcontainers/python")
        assert all(re.search(name.strip("/"), image) for image in images)
        (project.path / "renovate.json").write_text(json.dumps({**renovate, "enabledManagers": "gitlabci"}))
        assert project.run(*schema, check=False).returncode != 0
    else:
        front = project.read(".github/ISSUE_TEMPLATE/problem.md").split("---\n")[1]
        assert set(yaml.safe_load(front)) == {"name", "about"}
        updates = yaml.safe_load(project.read(".github/dependabot.yml"))
        assert updates["version"] == 2
        (update,) = updates["updates"]  # zizmor looks at the rest; each folder has actions to renew
        assert (update["package-ecosystem"], update["directories"]) == ("github-actions", ["/", "/.github/actions/*"])
        assert "uses: actions/" in project.read(".github/actions/setup/action.yml")


@pytest.fixture(scope="module")
def unicode_project(bake: Callable[..., BakedProject]) -> BakedProject:
    return bake(**UNICODE)


def test_unicode_spaces_and_apostrophes(unicode_project: BakedProject) -> None:
    project = unicode_project
    assert project.path.name == "latelier-deloise-shi-yan-1"
    assert project.files() == expected_files("latelier_deloise_shi_yan_1")
    check_text(project)
    assert f"Copyright (c) {UNICODE['author_name']}\n" in project.read("LICENSE")
    assert project.git_status() == ""
    if project.has_file("pyproject.toml"):
        table = tomllib.loads(project.read("pyproject.toml"))["project"]
        assert table["description"] == UNICODE["description"]
        assert table["authors"] == [{"name": UNICODE["author_name"], "email": UNICODE["author_email"]}]
    if project.has_file("README.md"):
        assert project.read("README.md").startswith(f"# {UNICODE['project_name']}\n")
        assert UNICODE["description"] in project.read("README.md")


def test_the_citation_names_what_a_citation_needs(unicode_project: BakedProject) -> None:
    assert yaml.safe_load(unicode_project.read("CITATION.cff")) == {
        "cff-version": "1.2.0",
        "message": "If you use this project, please cite it as below.",
        "type": "software",
        "title": UNICODE["project_name"],
        "abstract": UNICODE["description"],
        "authors": [{"name": UNICODE["author_name"]}],
        "license": "MIT",
    }


# The environment that bakes share has none of them installed, which `make setup` does.
INSTALLED = {"PYTHONPATH": "src"}


@pytest.mark.slow
@pytest.mark.parametrize(("task", "scope"), [*zip(TASKS, ("service", "production", "experiment"), strict=True)])
def test_pre_commit_passes_on_a_fresh_bake(bake: Callable[..., BakedProject], task: str, scope: str) -> None:
    project = bake(**UNICODE, task=task, scope=scope)
    result = project.run("pre-commit", "run", "--all-files", "--color", "never", check=False, env=INSTALLED)
    failed = [line for line in result.stdout.splitlines() if line.endswith("Failed")]
    assert result.returncode == 0, f"{failed}\n{result.stdout}"
    assert project.git_status() == "", "a hook changed something"


# Hooks are local; the review knows hooks by their repository. These have the same tools as hooks.
HOSTED = {
    "ruff-check": "astral-sh/ruff-pre-commit",
    "ruff-format": "astral-sh/ruff-pre-commit",
    "mypy": "pre-commit/mirrors-mypy",
    "rumdl": "rvben/rumdl-pre-commit",
    "codespell": "codespell-project/codespell",
    "zizmor": "zizmorcore/zizmor-pre-commit",
    "trailing-whitespace": "pre-commit/pre-commit-hooks",
}
# What the review asks for and a project does without, with the reason.
DECLINED = {
    "PY007": "make is the task runner",
    "PP004": "TensorFlow has no wheels for a newer Python, and the project is no library",
    "PC111": "code in documentation is commands, which a test types",
    "PC170": "there is no reStructuredText",
    "PC191": "ruff's fixes show in `git diff`",
    "PC901": "pre-commit.ci cannot run local hooks",
    "PC902": "pre-commit.ci cannot run local hooks",
    "PC903": "pre-commit.ci cannot run local hooks",
}


def test_scientific_python_has_nothing_else_to_ask_for(default_project: BakedProject, copy: Copy) -> None:
    project = copy(default_project)
    config = yaml.safe_load(project.read(".pre-commit-config.yaml"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    config["repos"] = [
        {"repo": f"https://github.com/{HOSTED[hook['id']]}", "hooks": [hook]} for hook in hooks if hook["id"] in HOSTED
    ]
    (project.path / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    checks = json.loads(project.run("repo-review", "--format", "json", ".", check=False).stdout)["checks"]
    assert {name for name, check in checks.items() if not check["result"]} == DECLINED.keys()
    assert len(checks) >= 59


def test_pre_commit_is_installed_for_the_stages_that_the_hooks_name(
    default_project: BakedProject, copy: Callable[[BakedProject], BakedProject]
) -> None:
    project = copy(default_project)
    config = yaml.safe_load(project.read(".pre-commit-config.yaml"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    # The entry of the others is what they say, or look for: pre-commit runs them itself.
    hooks = [hook for hook in hooks if hook["language"] not in ("fail", "pygrep")]
    for hook in hooks:
        entry = hook["entry"].removeprefix("env PYTHONPATH=src ")
        assert hook["language"] == "system" and entry.startswith(".venv/bin/"), hook
        assert (project.path / entry.split()[0]).is_file(), hook
    assert {stage for hook in hooks for stage in hook.get("stages", ["pre-commit"])} == set(
        config["default_install_hook_types"]
    )
    project.run("pre-commit", "install")
    for stage in config["default_install_hook_types"]:
        assert (project.path / ".git" / "hooks" / stage).is_file()


# A file for each kind of secret that a project meets, in pieces, which no scanner of secrets joins.
SECRETS = {
    "aws.py": "aws_secret_access_key = 'wJalrXUtnFEMI" + "/K7MDENG/bPxRfiCYzzzzzzzKEY'\n",
    "redis.env": "SERVICE_RATE_STORAGE=redis://me:" + "rain4tomorrow@cache:6379/0\n",
    "database.env": "STORE=postgresql://mlflow:" + "rain4tomorrow@db/mlflow\n",
    "login.env": "MLFLOW_TRACKING_PASSWORD=" + "rain4tomorrow\n",
    "hashes.env": "SERVICE_LOG_KEY=" + "5f0c8b9a3d7e41c2" * 2 + "\n",  # pragma: allowlist secret
    "azure.env": "CONNECTION=AccountName=a;AccountKey=" + "q1w2e3r4t5y6u7i8o9p0" * 4 + "a1b2c3==\n",
    "google.json": '{"private_key": "-----BEGIN ' + 'PRIVATE KEY-----\\nMIIEvQ\\n"}\n',
}
TOKENS = {
    "age.txt": "# public key: age1...\nAGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0" * 4 + "\n",  # pragma: allowlist secret
    "ask.sh": "curl -H 'Authorization: Bearer " + "vHq1Zb7YtLr0XcK9wPn3MeUaSd5Gf2Ji8QoTx6Ry4Bl'\n",
}


NOTEBOOK = json.dumps(
    {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": 1,
                "metadata": {},
                "outputs": [{"name": "stdout", "output_type": "stream", "text": ["of a person\\n"]}],
                "source": ["print(row)"],
            }
        ],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
)


@pytest.mark.parametrize(
    ("hook", "name", "text"),
    [
        ("ruff-check", "src/my_experiment/bad.py", "import os\n"),
        ("ruff-format", "src/my_experiment/bad.py", "x  =  1\n"),
        ("mypy", "src/my_experiment/bad.py", "x: int = 'one'\n"),
        (
            "import-linter",
            "src/my_experiment/harness/core/bad.py",
            'from .. import training\n\n__all__ = ["training"]\n',
        ),
        ("deptry", "src/my_experiment/bad.py", 'import pytest\n\n__all__ = ["pytest"]\n'),
        ("rumdl", "bad.md", "# One\n\n#Two\n"),
        ("codespell", "bad.txt", "langauge\n"),
        (
            "zizmor",
            ".github/workflows/bad.yml",
            'on: push\njobs: {a: {runs-on: x, steps: [{run: "echo ${{ github.head_ref }}"}]}}\n',
        ),
        ("licenses", "requirements/more.lock", "text-unidecode==1.3\n"),
        ("yamllint", "bad.yaml", "a: 1\na: 2\n"),
        ("check-toml", "bad.toml", "a = \n"),
        ("check-json", "bad.json", "{]\n"),
        ("trailing-whitespace", "bad.txt", "a \n"),
        ("end-of-file", "bad.txt", "a"),
        ("merge-conflict", "bad.txt", "<<<<<<< ours\n"),
        ("rejected-change", "README.md.rej", "@@ -1 +1 @@\n"),
        ("large-files", "bad.bin", "0" * 2_000_000),
        ("nbstripout", "bad.ipynb", NOTEBOOK),
        ("private-key", "bad.txt", "-----BEGIN RSA " + "PRIVATE KEY-----\n"),
        *(("secrets", name, text) for name, text in SECRETS.items()),
        *(("tokens", name, text) for name, text in TOKENS.items()),
    ],
)
def test_each_hook_finds_what_it_is_for(
    default_project: BakedProject,
    copy: Callable[[BakedProject], BakedProject],
    hook: str,
    name: str,
    text: str,
) -> None:
    project = copy(default_project)
    (project.path / name).write_text(text)
    project.run("git", "add", "--force", name)
    assert project.run("pre-commit", "run", hook, check=False, env=INSTALLED).returncode == 1


def test_a_release_is_no_secret(default_project: BakedProject, copy: Callable[[BakedProject], BakedProject]) -> None:
    project = copy(default_project)
    digest = hashlib.sha256(b"a model").hexdigest()
    (project.path / "deploy").mkdir()
    (project.path / "deploy/release.yaml").write_text(
        f"model:\n  sha256: {digest}\nimage:\n  digest: sha256:{digest}\n"
    )
    (project.path / "keys.yaml").write_text(f"- name: a\n  sha256:\n  - {digest}\n")
    project.run("git", "add", "--force", "deploy", "keys.yaml")
    project.run("pre-commit", "run", "secrets", env=INSTALLED)


def contents(project: BakedProject) -> dict[str, bytes]:
    """Reads every file of a project but cruft's own."""
    return {name: (project.path / name).read_bytes() for name in project.files() - {".cruft.json"}}


@pytest.mark.slow
def test_cruft_makes_the_same_tree_and_can_update_it(tmp_path: Path, bake: Callable[..., BakedProject]) -> None:
    source = tmp_path / "template"
    execute("git", "clone", "--quiet", template(), source, cwd=tmp_path)
    into = tmp_path / "into"
    into.mkdir()
    told = execute("cruft", "create", source, "--no-input", "--extra-context", json.dumps(UNICODE), cwd=into).stdout
    assert "commit it too" in told
    (path,) = into.iterdir()
    project = BakedProject(path)
    assert contents(project) == contents(bake(**UNICODE))
    assert project.run("git", "log", "--format=%s").stdout == "Start from template\n"
    project.run("cruft", "check")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "Follow the template")
    # The same answers, rendered anew, give the same files: nothing of a clock or a machine is in them.
    assert "diff --git" not in project.run("cruft", "diff", "--exit-code").stdout

    if not project.has_file("pyproject.toml"):
        pytest.skip("[tool.cruft] lies in pyproject.toml")
    changed = source / TEMPLATE.name / ".dvcignore"
    changed.write_text(changed.read_text() + "/new/\n")
    execute("git", "commit", "--quiet", "--all", "--message", "Change", cwd=source)
    assert project.run("cruft", "check", check=False).returncode == 1
    project.run("cruft", "update", "--skip-apply-ask")
    assert set(project.git_status().split()) == {"M", ".cruft.json", ".dvcignore"}
    assert project.read(".dvcignore").endswith("/new/\n")
    project.run("cruft", "check")
    assert project.run("git", "fsck").returncode == 0


def test_pre_commit_of_the_template_names_tools_that_are_there(venv: Path) -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    for repo in config["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert (venv.parent / hook["entry"].split()[0].replace(".venv", venv.name)).is_file(), hook


def test_python_files_hold_no_jinja() -> None:
    """What ruff and mypy read in the template is what is generated, byte for byte."""
    for path in TEMPLATE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.is_relative_to(TEMPLATE / "notebooks"):  # these import the package by its name, an answer
            text = text.replace("{{cookiecutter.package}}", "my_experiment", 1)
        # Copied as they are: what writes PromQL or Prometheus' templates has their braces.
        braces = path.parent.name in ("delivery", "monitoring")
        left = LEFTOVER.search(text.replace("{{", "") if braces else text)
        assert left is None, f"{path.relative_to(TEMPLATE)} holds {left}"
        ast.parse(text, str(path))
