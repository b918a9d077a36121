"""Models: each is one function, chosen by `_target_` in conf/model/."""
