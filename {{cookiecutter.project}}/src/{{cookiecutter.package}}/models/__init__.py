"""Models: each is one function, chosen by `_target_` in conf/model/.

A Keras model is a function of `inputs` and `head`; its keyword-only parameters are section `model` of the
configuration, and their types are checked. It returns a model without `compile`: loss and metrics are those of the
target. To add one, write a function like `mlp` and a file conf/model/NAME.yaml that names it.
"""
