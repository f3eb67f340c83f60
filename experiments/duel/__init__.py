"""A duel: families of merges side by side, at equal budgets, on the same questions that nobody searched on."""
