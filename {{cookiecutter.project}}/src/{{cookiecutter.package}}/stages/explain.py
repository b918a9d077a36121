"""Stage `explain`: what each column, or part of a picture, adds to the model's answers."""

from ..harness.core import config, stages
from ..harness.explanation import report
from ..harness.explanation.settings import Explain


def main() -> None:
    """Writes reports/explanations: pictures, values, and a section of the model card."""
    settings = config.load("explain", Explain)
    report.clear()
    if not settings.examples:
        report.write([], {})
        return
    from ..harness.explanation import checks, subject  # here, not above: `explain: none` imports nothing of it

    explained = subject.read(settings)
    results = subject.explain(explained)
    tests = checks.run(explained, results)
    shown = explained.present(results, report.PLOTS)
    report.write(report.section(explained, results, tests, shown), report.values(explained, results, tests))


if __name__ == "__main__":
    stages.run_stage("explain", main)
