"""Where the workers of a sweep run: a module for each way, chosen by `_target_` in conf/launcher/.

A worker takes trials from the study until none is left. A launcher therefore only starts workers, waits for them, and
reports those that it lost. All workers see the same project folder: on a cluster it lies on a shared file system.
"""
