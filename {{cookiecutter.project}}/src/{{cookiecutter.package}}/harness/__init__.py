"""The template's code, renewed by `cruft update`; edit the package above instead."""
