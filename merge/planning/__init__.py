"""From recipe and headers to a plan: what each output tensor is made of. No weight is read.

* ``planner.py`` leads; ``plan.py`` is what it gives.
* ``modules_and_slices.py`` divides a recipe into modules and slices; ``tensor_slots.py`` are the tensors in them.
* ``parameters.py`` finds the value of a parameter for a tensor: levels, filters, gradients over depth.
* ``recipe_values.py`` says of which numbers of the recipe that value is made, for gradients.
* ``compatibility.py`` collects how parents differ, for one message.
* ``planned_checkpoint.py`` is a model that an earlier document of a recipe will write.
"""
