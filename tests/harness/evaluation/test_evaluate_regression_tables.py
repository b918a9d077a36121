"""Stage `evaluate` on tables, in bakes with a regression."""

from test_evaluate_tables import target, test_form_and_examples_for_the_page, test_reports

__all__ = ["target", "test_form_and_examples_for_the_page", "test_reports"]
