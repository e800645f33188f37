"""Fair budgets, batches planned ahead, and the loop that spends them."""
