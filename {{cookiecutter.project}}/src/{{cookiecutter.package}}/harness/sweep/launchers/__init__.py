"""Launchers start the workers of a sweep and report lost ones.

`_target_` in conf/launcher/ names the module. Workers take trials from the study until none is left, so a launcher
distributes nothing. All workers share the project folder: on a cluster, it lies on a shared file system.
"""
