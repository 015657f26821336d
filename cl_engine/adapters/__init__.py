"""Parts that a task keeps beside a frozen net: each a row of numbers, and a function of the weights and that row."""
