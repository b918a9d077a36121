"""Models: one function each, chosen by `_target_` in conf/model/.

The function of a Keras model takes `inputs` and `head`; its keyword-only parameters are section `model` of the
configuration, checked against their types. It returns the model without `compile`: loss and metrics come from the
target. To add a model, write a function like `mlp` and a file conf/model/NAME.yaml that names it.
"""
